"""Teaching a real small bundle, and what evaluation and a running service make of it."""

from __future__ import annotations

import errno
import io
import json
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeclip.bundle import Bundle
from edgeclip.cli import main
from edgeclip.config import load_config
from edgeclip.errors import BAD_DATA, USAGE, DataError, UsageError
from edgeclip.evaluate import evaluate
from edgeclip.runtime.service import serve
from edgeclip.runtime.shots import Shots, read_shots, read_thumbnails, shots_path, write_shots
from edgeclip.runtime.taughtlabels import TaughtLabels
from edgeclip.teach.session import TeachOptions, forget, label_name, taught, teach
from edgeclip.types import Label

KINDS = {"dog": (30, 60, 220), "cat": (220, 50, 40), "tree": (40, 200, 60)}  # BGR: what each looks like here
LABELS = [Label(name) for name in KINDS]
Captured = pytest.CaptureFixture[str]


def picture(kind: str, seed: int) -> np.ndarray:
    random = np.random.default_rng([seed, *map(ord, kind)])
    pixels = np.array(KINDS[kind]) + random.normal(0, 25, (40, 40, 3)) + random.normal(0, 12, 3)
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    for kind in KINDS:
        for seed in range(10):
            folder = tmp_path / ("shots" if seed < 6 else "test") / kind
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{seed}.png"), picture(kind, seed))
    return tmp_path / "shots"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGECLIP_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("EDGECLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "state"


def teach_all(shots: Path, bundle: Bundle, state: Path) -> None:
    for kind in KINDS:
        teach(TeachOptions(kind, (str(shots / kind),)), bundle, state)


def test_the_curve_rises(tiny: Bundle, shots: Path, state: Path, tmp_path: Path) -> None:
    before = evaluate(tiny, tmp_path / "test", LABELS)
    teach_all(shots, tiny, state)
    notices: list[str] = []
    after = evaluate(tiny, tmp_path / "test", LABELS, taught=TaughtLabels(tiny, state, notices.append))
    assert before.top1 is not None
    assert after.top1 is not None
    assert after.top1 > max(before.top1, 0.9)
    assert after.taught == 3
    assert before.taught == 0
    assert notices == [notices[0]]
    assert "dog (6)" in notices[0]


def test_a_picture_is_taught_once(tiny: Bundle, shots: Path, state: Path) -> None:
    first = teach(TeachOptions("dog", (str(shots / "dog"),)), tiny, state)
    (shots / "dog" / "copy.png").write_bytes((shots / "dog" / "1.png").read_bytes())
    second = teach(TeachOptions("Dog", (str(shots / "dog"),)), tiny, state)
    assert (first.new, first.again) == (6, 0)
    assert (second.label, second.new, second.again, second.shots) == ("dog", 0, 7, 6)
    with pytest.raises(DataError, match="as 'dog' already"):
        teach(TeachOptions("cat", (str(shots / "dog" / "1.png"),)), tiny, state)


def test_an_outlier_is_left_out_and_shown(tiny: Bundle, shots: Path, state: Path) -> None:
    teach(TeachOptions("cat", (str(shots / "cat"),)), tiny, state)
    cv2.imwrite(str(shots / "dog" / "wrong.png"), picture("cat", 99))
    outcome = teach(TeachOptions("dog", (str(shots / "dog"),)), tiny, state)
    assert [Path(shot.origin).name for shot in outcome.left_out] == ["wrong.png"]
    assert "to 'cat'" in outcome.left_out[0].left_out
    sheet = cv2.imread(outcome.sheet)
    assert sheet is not None
    assert (sheet == (72, 72, 204)).all(axis=2).any()  # its red frame
    again = teach(TeachOptions("dog", (str(shots / "dog"),), keep_all=True), tiny, state)
    assert again.left_out == ()


def test_within_folders_what_is_unreadable_is_told_and_passed_over(
    tiny_path: Path, shots: Path, state: Path, capsys: Captured
) -> None:
    bad = shots / "dog" / "bad.jpg"
    bad.write_bytes(b"no picture")
    assert main(["teach", "dog", str(shots / "dog"), "--bundle", str(tiny_path), "--json"]) == 0
    said = capsys.readouterr()
    assert "bad.jpg is not a readable picture" in said.err
    assert json.loads(said.out)["new"] == 6
    assert main(["teach", "dog", str(bad), "--bundle", str(tiny_path)]) == BAD_DATA


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["dog", "EMPTY"], BAD_DATA, "holds no pictures"),
        (["x" * 2000, "SHOTS"], USAGE, "2000 characters"),
        ([" ", "SHOTS"], USAGE, "empty"),
        (["dog: a dog | a puppy", "SHOTS"], USAGE, "name alone"),
        (["dog"], USAGE, "neither pictures nor a source"),
        (["dog", "SHOTS", "--source", "demo"], USAGE, "both pictures and a source"),
    ],
)
def test_bad_input(
    words: list[str], code: int, said: str, tiny_path: Path, shots: Path, state: Path, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": str(tmp_path / "empty"), "SHOTS": str(shots / "dog")}
    assert main(["teach", *(places.get(word, word) for word in words), "--bundle", str(tiny_path)]) == code
    assert said in capsys.readouterr().err
    assert not list(state.rglob("*.npz"))


def test_teaching_from_a_source(tiny: Bundle, state: Path) -> None:
    outcome = teach(TeachOptions("dog", source="demo", seconds=1.0, frames=4), tiny, state)
    assert 1 <= outcome.new <= 4
    assert "frame" in taught(tiny, state).labels[0].shots[0].origin


def test_forgetting(tiny: Bundle, shots: Path, state: Path, tiny_path: Path, capsys: Captured) -> None:
    teach_all(shots, tiny, state)
    shot = taught(tiny, state).labels[0].shots[2]
    assert forget("DOG", shot.id, tiny, state) == 1
    assert shot not in taught(tiny, state).labels[0].shots
    assert len(list((state / "taught").glob("*.png"))) == 2  # the contact sheet went with it
    assert main(["forget", "dog", "--bundle", str(tiny_path)]) == 0
    assert main(["taught", "--bundle", str(tiny_path), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [label["label"] for label in listed["labels"]] == ["cat", "tree"]
    path = shots_path(state, tiny.manifest.space)
    assert len(read_thumbnails(path, 12)) == 12
    with pytest.raises(DataError, match="'dog' was never taught to this model") as caught:
        forget("dog", None, tiny, state)
    assert "edgeclip taught" in caught.value.hint


def test_after_all_was_forgotten_it_can_be_taught_again(tiny: Bundle, shots: Path, state: Path) -> None:
    for _ in range(2):
        assert teach(TeachOptions("dog", (str(shots / "dog"),)), tiny, state).new == 6
        assert forget("dog", None, tiny, state) == 6
    assert taught(tiny, state).labels == ()
    with np.load(shots_path(state, tiny.manifest.space)) as stored:
        assert [len(stored[name]) for name in ("embeddings", "thumbnails", "ends")] == [0, 0, 0]


def test_another_models_shots_are_refused(tiny: Bundle, shots: Path, state: Path) -> None:
    teach(TeachOptions("dog", (str(shots / "dog"),)), tiny, state)
    path = shots_path(state, tiny.manifest.space)
    elsewhere = shots_path(state, "sha256:" + "9" * 64)
    with pytest.raises(DataError, match="taught to another model"):
        read_shots(path, "sha256:" + "9" * 64, tiny.manifest.dim)
    path.rename(elsewhere)
    notices: list[str] = []
    known = TaughtLabels(tiny, state, notices.append)
    bank = load(tiny)
    assert known.refine(bank) is bank
    assert "taught to another model" in notices[0]
    assert str(shots / "dog" / "0.png") in notices[0]
    assert list(taught(tiny, state).elsewhere) == ["dog"]


def load(bundle: Bundle):  # type: ignore[no-untyped-def]
    from edgeclip.runtime.labelbank import load_bank

    return load_bank(bundle, LABELS)


def test_a_store_that_cannot_be_read_for_a_while_is_tried_until_it_can(
    tiny: Bundle, shots: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = TaughtLabels(tiny, state, lambda text: None)
    teach(TeachOptions("dog", (str(shots / "dog"),)), tiny, state)
    failing = [errno.ESTALE, errno.EIO, errno.EIO]

    def read(path: Path, space: str, dim: int) -> Shots:
        if failing:
            raise DataError(f"{path} holds no taught shots") from OSError(failing.pop(), "gone for a moment")
        return read_shots(path, space, dim)

    monkeypatch.setattr("edgeclip.runtime.taughtlabels.read_shots", read)
    with pytest.raises(DataError):
        known.poll()
    assert not known.well
    assert [known.poll(), known.poll()] == [None, None]
    found = known.poll()
    assert found is not None
    assert len(found.shots) == 6
    assert known.well


def test_a_damaged_store_is_refused(tiny: Bundle, shots: Path, state: Path) -> None:
    teach(TeachOptions("dog", (str(shots / "dog"),)), tiny, state)
    path = shots_path(state, tiny.manifest.space)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"x" * 100):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"npz") as caught:
            read_shots(path, tiny.manifest.space, tiny.manifest.dim)
        assert "teach the labels again" in caught.value.hint


def test_a_store_whose_pictures_are_damaged_is_not_written_over(
    tiny: Bundle, tiny_path: Path, shots: Path, state: Path, capsys: Captured
) -> None:
    teach(TeachOptions("dog", (str(shots / "dog"),)), tiny, state)
    path = shots_path(state, tiny.manifest.space)
    kept = read_shots(path, tiny.manifest.space, tiny.manifest.dim)
    write_shots(path, kept, read_thumbnails(path, 6)[:4])
    whole = path.read_bytes()
    at = whole.index(b"\xff\xd8\xff")  # the first JPEG
    for damaged in (whole, whole[:at] + bytes(100) + whole[at + 100 :]):  # too few; not those of the checksum
        path.write_bytes(damaged)
        for words in (["teach", "cat", str(shots / "cat")], ["forget", "dog"]):
            assert main([*words, "--bundle", str(tiny_path)]) == BAD_DATA
            assert "teach the labels again" in capsys.readouterr().err
        assert path.read_bytes() == damaged


def test_label_names() -> None:
    assert label_name("  a coffee   mug ") == "a coffee mug"
    with pytest.raises(UsageError):
        label_name("two\nlines")
    with pytest.raises(UsageError, match="is no label"):
        label_name("Unknown")


def test_a_running_service_takes_it_in_within_a_second(tiny: Bundle, tiny_path: Path, shots: Path, state: Path) -> None:
    teach_all(shots, tiny, state)
    path = shots_path(state, tiny.manifest.space)
    everything = read_shots(path, tiny.manifest.space, tiny.manifest.dim)
    thumbnails = read_thumbnails(path, len(everything.shots))
    write_shots(path, everything.of([]), [])
    film = state / "film.mp4"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"mp4v"), 30.0, (40, 40))
    for _ in range(900):
        writer.write(picture("tree", 7))
    writer.release()
    flags = {"source": (str(film),), "realtime": True, "label": tuple(KINDS), "bundle": str(tiny_path)}
    flags["sink"] = (f"jsonl:{state / 'out.jsonl'}",)
    notices: list[str] = []
    over = threading.Event()

    def told() -> list[str]:
        return (state / "out.jsonl").read_text().splitlines() if (state / "out.jsonl").exists() else []

    def run() -> None:
        serve(load_config(flags, {}), io.StringIO(), notices.append, over.is_set)

    running = threading.Thread(target=run)
    running.start()
    try:
        within(20, lambda: len(told()) > 3)
        write_shots(path, everything, thumbnails)
        within(10, lambda: any("by " in notice for notice in notices))  # within a second on a quiet machine
        lines = len(told())
        within(10, lambda: len(told()) > lines + 3)
    finally:
        over.set()
        running.join()
    assert any("taught shots changed: 18 in force" in notice for notice in notices)
    first, last = (json.loads(told()[row])["scores"]["tree"] for row in (0, -1))
    assert last > first + 0.1


def within(seconds: float, is_so) -> None:  # type: ignore[no-untyped-def]
    deadline_s = time.monotonic() + seconds
    while not is_so() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert is_so()
