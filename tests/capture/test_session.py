from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from mjpeg_server import MjpegServer
from rtsp_server import RtspServer
from scene import EVENT, STILL, picture_at, sight, write_film

from edgeclip.bundle import Bundle
from edgeclip.capture.folder import INDEX, CaptureFolder, Row
from edgeclip.capture.session import CaptureOptions, Outcome, capture
from edgeclip.cli import main
from edgeclip.errors import BAD_DATA, CONFIGURATION, OK, UNAVAILABLE, USAGE, DataError
from edgeclip.picture import read_picture
from edgeclip.progress import Silent
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.types import Pixels

FRAMES = 6 * (STILL + EVENT)
DIFFERENT = 1 + 6 * EVENT


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """276 frames, 37 different sights."""
    return write_film(tmp_path_factory.mktemp("film") / "site.mp4", FRAMES)


@pytest.fixture
def take(tiny_path: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """Capture into tmp_path/set."""

    def take(*sources: object, stop: Callable[[], bool] = lambda: False, **options: object) -> Outcome:
        uris = tuple(map(str, sources))
        asked = CaptureOptions(source=uris, out=tmp_path / "set", bundle=str(tiny_path), threads=1)
        return capture(dataclasses.replace(asked, **options), stop)  # type: ignore[arg-type]

    return take


def rows(directory: Path) -> list[Row]:
    """Lines of the index whose picture is there."""
    lines = (directory / INDEX).read_bytes().splitlines()
    kept = [msgspec.json.decode(line, type=Row) for line in lines]
    return [row for row in kept if (directory / "frames" / row.file).exists()]


def pictures(directory: Path) -> list[Pixels]:
    return [read_picture(path) for path in sorted((directory / "frames").glob("*.png"))]


def embedded(bundle: Bundle, frames: list[Pixels]) -> npt.NDArray[np.float32]:
    engine, preprocess = load_engine(bundle, "image", threads=1), Preprocessor(bundle.manifest.preprocess)
    try:
        return np.stack([engine.run(preprocess(frame))[0].copy() for frame in frames])
    finally:
        engine.close()


def closest_pair(embeddings: npt.NDArray[np.float32]) -> float:
    apart = np.sqrt(np.maximum(2 - 2 * embeddings @ embeddings.T, 0))
    return float(apart[~np.eye(len(apart), dtype=bool)].min())


def decoded(film: Path) -> list[Pixels]:
    reader, frames = cv2.VideoCapture(str(film)), []
    while True:
        found, pixels = reader.read()
        if not found:
            return frames
        frames.append(np.asarray(pixels, np.uint8))


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_every_sight_is_kept_and_hardly_any_twice(film: Path, take: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = take(film)
    assert outcome.ended == "the source has ended"
    assert outcome.counts.seen == FRAMES
    counts = outcome.counts
    assert counts.near + counts.redundant + counts.blurred + counts.dark + counts.blank + outcome.new == FRAMES
    numbers = [nearest_sight(picture) for picture in pictures(tmp_path / "set")]
    assert set(numbers) == set(range(DIFFERENT))
    assert len(numbers) <= DIFFERENT + 8
    assert len(numbers) == outcome.kept


def nearest_sight(pixels: Pixels) -> int:
    wanted = cv2.resize(pixels, (8, 6), interpolation=cv2.INTER_AREA).astype(np.float32)
    small = [cv2.resize(sight(n), (8, 6), interpolation=cv2.INTER_AREA).astype(np.float32) for n in range(DIFFERENT)]
    return int(np.argmin([np.abs(wanted - one).mean() for one in small]))


def test_a_small_set_is_farther_apart_than_every_nth_frame(
    film: Path, take: Callable[..., Outcome], tmp_path: Path, tiny: Bundle
) -> None:
    outcome = take(film, frames=16)
    assert outcome.kept == 16
    assert outcome.counts.replaced == outcome.new - 16 > 0
    every = decoded(film)
    uniform = [every[index] for index in np.linspace(0, len(every) - 1, 16).round().astype(int)]
    ours = closest_pair(embedded(tiny, pictures(tmp_path / "set")))
    assert ours == pytest.approx(outcome.closest, abs=1e-3)
    assert ours > 3 * closest_pair(embedded(tiny, uniform))


def test_blurred_dark_and_blank_frames_are_counted_and_not_kept(take: Callable[..., Outcome], tmp_path: Path) -> None:
    shots = tmp_path / "shots"
    shots.mkdir()
    for number in range(4):
        blurred = cv2.GaussianBlur(sight(40 + number), (0, 0), 14)
        night = np.full((120, 160, 3), 3, np.uint8)
        night[: 8 + number, :100] = 250  # a lamp
        cv2.imwrite(str(shots / f"a{number}.png"), sight(number))
        cv2.imwrite(str(shots / f"b{number}.png"), blurred)
        cv2.imwrite(str(shots / f"c{number}.png"), night)
        cv2.imwrite(str(shots / f"d{number}.png"), np.full((120, 160, 3), number * 60, np.uint8))
        cv2.imwrite(str(shots / f"e{number}.png"), sight(number))
    outcome = take(shots)
    counts = outcome.counts
    assert (counts.blurred, counts.dark, counts.blank, counts.near) == (4, 4, 4, 4)
    assert outcome.kept == 4
    assert not outcome.enough


def test_a_kept_frame_is_what_the_camera_gave(film: Path, take: Callable[..., Outcome], tmp_path: Path) -> None:
    take(film, frames=8)
    every = decoded(film)
    for row in rows(tmp_path / "set"):
        assert np.array_equal(read_picture(tmp_path / "set" / "frames" / row.file), every[row.frame])


def test_nothing_usable_is_an_error_with_the_reasons(take: Callable[..., Outcome], tmp_path: Path) -> None:
    black = write_film(tmp_path / "black.mp4", 12, lambda index: np.zeros((120, 160, 3), np.uint8))
    with pytest.raises(DataError, match="no frame was kept; 12 came: 12 blank") as raised:
        take(black)
    assert raised.value.hint


def test_only_blurred_frames_name_the_option(take: Callable[..., Outcome], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "soft.png"), cv2.GaussianBlur(sight(1), (0, 0), 14))
    with pytest.raises(DataError) as raised:
        take(tmp_path / "soft.png")
    assert "--min-sharpness" in raised.value.hint


# -- going on ----------------------------------------------------------------------------------------------------------


def test_the_same_command_again_adds_nothing_and_counts_on(
    film: Path, take: Callable[..., Outcome], tmp_path: Path
) -> None:
    first = take(film)
    before = (tmp_path / "set" / INDEX).read_bytes()
    second = take(film)
    assert second.new == 0
    assert second.kept == first.kept
    assert second.counts.seen == 2 * FRAMES
    assert (tmp_path / "set" / INDEX).read_bytes() == before


def test_a_set_larger_than_asked_for_is_not_cut(film: Path, take: Callable[..., Outcome]) -> None:
    kept = take(film, frames=20).kept
    assert take(film, frames=5).kept == kept


@pytest.mark.parametrize("turn", range(3))
def test_kill_9_neither_loses_nor_tears_a_frame(
    turn: int, film: Path, tiny_path: Path, tmp_path: Path, take: Callable[..., Outcome]
) -> None:
    directory = tmp_path / "set"
    command = [sys.executable, "-m", "edgeclip", "capture", "--source", str(film), "--out", str(directory)]
    command += ["--bundle", str(tiny_path), "--frames", "24", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 40
    while len(list(directory.glob("frames/*.png"))) < 8 + 8 * turn and process.poll() is None:
        assert time.monotonic() < deadline_s
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survivors = {row.file: (directory / "frames" / row.file).read_bytes() for row in rows(directory)}
    assert len(survivors) >= 8
    assert {path.name for path in directory.glob("frames/*.png")} == set(survivors)
    with CaptureFolder(directory) as folder:
        assert set(folder.rows) >= set(survivors) or len(folder.rows) == 24
        for file in folder.rows:
            assert read_picture(folder.path(file)).shape == (120, 160, 3)
    outcome = take(film, frames=24)
    assert outcome.kept == 24
    replaced = {json.loads(line)["replaces"] for line in (directory / INDEX).read_text().splitlines()}
    for file, data in survivors.items():
        assert file in replaced or (directory / "frames" / file).read_bytes() == data


# -- running cameras ---------------------------------------------------------------------------------------------------


def test_an_rtsp_camera_with_a_password_that_is_written_nowhere(take: Callable[..., Outcome], tmp_path: Path) -> None:
    with RtspServer(lambda index: picture_at(STILL - 4 + index), password="s3cret") as server:
        kept = lambda: len(list((tmp_path / "set" / "frames").glob("*.png")))  # noqa: E731
        outcome = take(server.url.replace("//", "//cam:s3cret@"), seconds=60.0, stop=lambda: kept() > EVENT)
    assert outcome.ended == "stopped"
    for path in (tmp_path / "set").rglob("*"):
        if path.is_file():
            assert b"s3cret" not in path.read_bytes()
    assert all("***@127.0.0.1" in row.source for row in rows(tmp_path / "set"))


def test_frames_that_were_not_looked_at_are_counted(
    take: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera of a hundred frames, each replaced by the next while it waits."""

    class Camera:
        name, live, paced, max_fps, fps = "camera", True, False, None, 50.0

        def __init__(self) -> None:
            self.numbers = iter(range(100))

        def open(self) -> None: ...

        def close(self) -> None: ...

        def read(self) -> Pixels | None:
            time.sleep(0.005)
            number = next(self.numbers, None)
            return None if number is None else sight(number % 40)

    monkeypatch.setattr("edgeclip.capture.session.open_source", lambda *_, **__: Camera())
    outcome = take("camera:0")
    assert outcome.ended == "the source has ended"
    assert outcome.counts.seen + outcome.dropped == 100


def test_patience_ends_a_capture_of_a_still_scene(take: Callable[..., Outcome]) -> None:
    def still(index: int) -> Pixels:
        return picture_at(index % STILL)

    with RtspServer(still) as server:
        outcome = take(server.url, patience=1.0, seconds=30.0)
    assert "nothing new" in outcome.ended
    assert outcome.seconds < 20
    assert outcome.kept <= 4


def test_an_outage_is_no_reason_to_lose_patience(rtsp: RtspServer, take: Callable[..., Outcome]) -> None:
    started_s = time.monotonic()

    def stop() -> bool:
        rtsp.stalled = time.monotonic() - started_s > 1.5
        return False

    outcome = take(rtsp.url, patience=2.5, seconds=6.0, stop=stop)
    assert "6.0 s" in outcome.ended


def test_an_mjpeg_camera_and_a_film_together(
    mjpeg: MjpegServer, film: Path, take: Callable[..., Outcome], tmp_path: Path
) -> None:
    def both_seen() -> bool:
        return {row.source for row in rows(tmp_path / "set")} == {mjpeg.url, str(film)}

    assert take(mjpeg.url, film, seconds=30.0, min_sharpness=0.0, stop=both_seen).ended == "stopped"


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_did_and_what_comes_next(
    film: Path, tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "site-a"
    assert main(["capture", "--source", str(film), "--out", str(out), "--bundle", str(tiny_path)]) == OK
    said = capsys.readouterr()
    assert f"{FRAMES} looked at" in said.out
    assert "too few" in said.out  # 37 of the 64 that a build needs
    assert "capturing" in said.err
    for name in ("contact-sheet.png", "coverage.png", "coverage.html"):
        assert (out / name).stat().st_size > 1000


def test_the_outcome_as_json(film: Path, tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "site-a"
    assert main(["capture", "--source", str(film), "--out", str(out), "--bundle", str(tiny_path), "--json"]) == OK
    figures = json.loads(capsys.readouterr().out)
    assert figures["counts"]["seen"] == FRAMES
    assert figures["kept"] == len(list(out.glob("frames/*.png")))


def test_ctrl_c_ends_cleanly_with_a_summary(tiny_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "site-a"
    with RtspServer(lambda index: picture_at(STILL + index % EVENT)) as server:
        command = [sys.executable, "-m", "edgeclip", "capture", "--source", server.url, "--out", str(out)]
        command += ["--bundle", str(tiny_path), "--threads", "1"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline_s = time.monotonic() + 30
        while not list(out.glob("frames/*.png")):
            assert time.monotonic() < deadline_s
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said, complaint = process.communicate(timeout=30)
    assert process.returncode == OK
    assert "frames; this run" in said
    assert "stopped" in said
    assert "Traceback" not in complaint
    assert (out / "coverage.html").exists()


def test_mistakes_have_their_exit_codes(
    film: Path, tiny_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGECLIP_BUNDLE", raising=False)
    bundle = ["--bundle", str(tiny_path)]
    out = ["--out", str(tmp_path / "set")]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    assert main(["capture", *out, *bundle]) == USAGE
    assert main(["capture", "--source", str(film), "--frames", "5000", *out, *bundle]) == USAGE
    assert main(["capture", "--source", str(tmp_path / "no.mp4"), *out, *bundle]) == UNAVAILABLE
    assert main(["capture", "--source", str(film), *out, "--bundle", str(tmp_path / "none")]) == BAD_DATA
    assert not (tmp_path / "set").exists()
    assert main(["capture", "--source", str(film), "--out", str(tmp_path / "other"), *bundle]) == CONFIGURATION
    said = capsys.readouterr().err
    assert said.count("error: ") == 5
    assert "Traceback" not in said


def test_a_camera_that_is_not_there_is_unavailable(tiny_path: Path, tmp_path: Path) -> None:
    if os.path.exists("/dev/video97"):
        pytest.skip("there is a camera 97 here")
    command = ["capture", "--camera", "97", "--out", str(tmp_path / "set"), "--bundle", str(tiny_path)]
    assert main(command) == UNAVAILABLE


# -- and then ----------------------------------------------------------------------------------------------------------


def test_build_takes_the_folder_and_only_its_frames(film: Path, take: Callable[..., Outcome], tmp_path: Path) -> None:
    from edgeclip.build.calibrate import select
    from edgeclip.build.frames import frames_of
    from edgeclip.build.recipe import Sampling
    from edgeclip.bundle import Preprocess

    outcome = take(film)
    found = list(frames_of(str(tmp_path / "set"), 512, 0))
    assert len(found) == outcome.kept
    assert {frame.shape for frame in found} == {(120, 160, 3)}
    facts = Preprocess((32, 32), "shortest", "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    selection = select(found, Preprocessor(facts), Sampling())
    assert len(selection.frames) == outcome.kept  # none of them is a duplicate to it


def test_capture_asks_for_no_less_than_build_does() -> None:
    from edgeclip.build.recipe import MINIMUM_FRAMES, Sampling
    from edgeclip.capture import collector, quality, report

    assert report.BUILD_MINIMUM == MINIMUM_FRAMES
    assert Sampling().blank_below <= quality.BLANK_BELOW
    assert Sampling().near_below <= collector.NEAR_BELOW


def test_progress_tells_how_many_and_how_new(film: Path, tiny_path: Path, tmp_path: Path) -> None:
    class Notes(Silent):
        steps = 0
        said: list[str]

        def advance(self, n: int = 1) -> None:
            self.steps += n

        def note(self, text: str) -> None:
            self.said.append(text)

    notes = Notes()
    notes.said = []
    outcome = capture(
        CaptureOptions((str(film),), tmp_path / "set", frames=8, bundle=str(tiny_path), threads=1), progress=notes
    )
    assert notes.steps == outcome.kept == 8
    assert any("take the place" in text for text in notes.said)
