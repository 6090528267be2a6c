"""Whole runs on colours, seconds each: every kind of phase learns, and a stopped run ends as one that was not."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import toy
import yaml

from edgeclip.atomic import atomic_write
from edgeclip.cli import main
from edgeclip.errors import BAD_DATA, CONFIGURATION, DataError
from edgeclip.progress import Lines, Silent
from edgeclip.runtime.tokenizer import load_tokenizer
from edgeclip.train import run
from edgeclip.train.checkpoint import load_checkpoint
from edgeclip.train.curves import draw_curves
from edgeclip.train.data import read_pairs
from edgeclip.train.run import train
from edgeclip.train.towers import DualEncoder
from edgeclip.train.vocabulary import encode
from edgeclip.train.zeroshot import accuracy, embed_pictures, label_bank

CHANCE = 1 / len(toy.COLOURS)
BOTH = {"name": "pairs", "train": ["image", "text"], "batch": 16, "learning_rate": 3e-3, "crop": [0.5, 1.0]}
BRIEF = {**BOTH, "batch": 32, "epochs": 1}


def blank_curves(history: list[dict[str, Any]], path: Path) -> None:
    """Drawing takes longer than an epoch of colours; test_curves.py and one run here do draw."""
    with atomic_write(path) as stream:
        stream.write(b"curves")


@pytest.fixture(autouse=True)
def quick_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "draw_curves", blank_curves)


def history(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "history.jsonl").read_text(encoding="utf-8").splitlines()]


def saved(out: Path) -> dict[str, Any]:
    return torch.load(out / "state.pt", weights_only=True)  # type: ignore[no-any-return]


def assert_same_weights(one: Path, two: Path) -> None:
    """Bit for bit, of the model, its average and the optimiser."""
    first, second = saved(one), saved(two)
    for kind in ("model", "average"):
        for name, tensor in first[kind].items():
            assert torch.equal(tensor, second[kind][name]), f"{kind} {name}"
    models = [load_checkpoint(out / "checkpoint.safetensors")[0].state_dict() for out in (one, two)]
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())


# -- learning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["contrastive", "sigmoid"])
def test_it_learns_to_name_colours(tmp_path: Path, loss: str) -> None:
    config = toy.write_config(tmp_path, [{**BOTH, "epochs": 6, "loss": loss}])
    out = tmp_path / "out"
    figures = train(config, out, False, Silent())
    assert figures["top1"] > 0.8 > 4 * CHANCE
    assert figures["r1"] > 0.8
    rows = history(out)
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]

    # The checkpoint alone, read anew, knows what the run has measured.
    model, facts = load_checkpoint(out / "checkpoint.safetensors")
    dev = read_pairs([str(tmp_path / "dev.tar")])

    def embed(phrases: list[str]) -> torch.Tensor:
        return model.encode_text(torch.from_numpy(encode(facts.tokenizer, phrases, 12)))

    measured = accuracy(
        embed_pictures(model, dev, 16), label_bank(dev.classes, facts.templates, embed), dev, dev.classes
    )
    assert measured["top1"] == pytest.approx(figures["top1"], abs=0.06)  # float16 weights
    assert facts.name == "toy"
    assert facts.scoring.kind == ("sigmoid" if loss == "sigmoid" else "softmax")
    assert facts.scoring.scale == pytest.approx(model.log_scale.exp().item(), rel=1e-2)
    assert facts.scoring.bias == pytest.approx(model.bias.item() if loss == "sigmoid" else 0.0, abs=1e-2)
    assert facts.training["top1"] == figures["top1"]


def test_locked_text_tuning_moves_the_image_tower_alone(tmp_path: Path) -> None:
    locked = {"name": "locked", "train": ["image"], "epochs": 5, "batch": 16, "learning_rate": 3e-3}
    config = toy.write_config(tmp_path, [{**BRIEF, "learning_rate": 0.0}, locked])
    figures = train(config, tmp_path / "out", False, Silent())
    torch.manual_seed(3)
    before = run.DualEncoder(run.load_yaml(config, run.TrainConfig).towers).state_dict()
    after = saved(tmp_path / "out")["average"]
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("text."))
    assert not torch.equal(before["image.head.weight"], after["image.head.weight"])
    assert figures["top1"] > 0.7


def test_teachers_words_then_pictures(tmp_path: Path) -> None:
    """As nano is trained: words into the teacher's space, then pictures against the locked words."""
    made = toy.pictures(16, 1)
    toy.write_tar(tmp_path / "train.tar", made)
    teachers = toy.write_teachers(tmp_path, made)
    (tmp_path / "corpus.txt").write_text("crimson\nvermilion\n", encoding="utf-8")
    (tmp_path / "labels.txt").write_text("\n".join(["Red", *list(toy.COLOURS)[1:], "crimson"]), encoding="utf-8")
    words = {
        "name": "words", "train": ["text"], "images": "teacher", "epochs": 8, "batch": 16, "learning_rate": 5e-3,
        "anchor": 1.0,
    }  # fmt: skip
    looks = {
        "name": "looks", "train": ["image"], "loss": "bank", "epochs": 5, "batch": 16, "learning_rate": 5e-3,
        "distill": 2.0, "soft": 1.0, "sizes": [[0.0, 12], [0.5, 16]],
    }  # fmt: skip
    config = toy.write_config(
        tmp_path,
        [words, looks],
        teachers=teachers,
        corpus=str(tmp_path / "corpus.txt"),
        data={
            "train": [str(tmp_path / "train.tar")],
            "dev": str(tmp_path / "dev.tar"),
            "dev_labels": str(tmp_path / "labels.txt"),
        },
    )
    said, out = io.StringIO(), tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeclip.train.space.ADAPTER_STEPS", 150)
        with Lines(said) as progress:
            figures = train(config, out, False, progress)
    rows = history(out)
    assert [(row["phase"], row["epoch"]) for row in rows] == [("words", i + 1) for i in range(8)] + [
        ("looks", i + 1) for i in range(5)
    ]
    assert rows[7]["loss"] < rows[0]["loss"]
    assert rows[7]["top1"] < 0.6 < 0.75 < figures["top1"]  # the image tower had seen nothing before
    assert "looks epoch 1/5 at 12 px" in said.getvalue()
    assert "looks epoch 3/5 at 12 px" in said.getvalue()
    assert "looks epoch 4/5 at 16 px" in said.getvalue()
    assert "looks 5/5: loss " in said.getvalue()

    # The words went where the teacher's pictures are, and the pictures followed: each to its own class's mean.
    model, facts = load_checkpoint(out / "checkpoint.safetensors")
    assert {"crimson", "vermilion"} <= set(json.loads(facts.tokenizer)["model"]["vocab"])
    pairs = read_pairs([str(tmp_path / "train.tar")])
    space = run.teacher_space(teachers["image"], pairs.keys, 8)
    ours = embed_pictures(model, pairs, 16)
    assert (ours * space.images).sum(1).mean() > 0.6
    with torch.no_grad():
        vectors = model.encode_text(torch.from_numpy(encode(facts.tokenizer, pairs.classes, 12)))
    right = (space.images @ vectors.T).argmax(1).numpy() == pairs.class_ids
    assert right.mean() > 0.9


def test_words_without_pictures_follow_their_neighbours(tmp_path: Path) -> None:
    """As nano's last phase: synonyms go to the class phrase they are near, which itself stays where it was."""
    made = toy.pictures(16, 1)
    toy.write_tar(tmp_path / "train.tar", made)
    teachers = toy.write_teachers(tmp_path, made)
    (tmp_path / "corpus.txt").write_text("crimson\n", encoding="utf-8")
    (tmp_path / "synonyms.txt").write_text("red\tscarlet\nblack\tpink\n", encoding="utf-8")
    looks = {
        "name": "looks", "train": ["image"], "loss": "bank", "epochs": 4, "batch": 16, "learning_rate": 5e-3,
        "answers": 1.0,
    }  # fmt: skip
    config = toy.write_config(
        tmp_path, [looks], teachers=teachers, corpus=str(tmp_path / "corpus.txt"),
        synonyms=str(tmp_path / "synonyms.txt"),
    )  # fmt: skip
    out = tmp_path / "out"
    train(config, out, False, Silent())
    before, _ = load_checkpoint(out / "checkpoint.safetensors")
    last = {
        "name": "synonyms", "train": ["text"], "images": "teacher", "epochs": 30, "batch": 16, "learning_rate": 5e-3,
        "pair": 0.0, "neighbours": 1.0,
    }  # fmt: skip
    config = toy.write_config(
        tmp_path, [looks, last], teachers=teachers, corpus=str(tmp_path / "corpus.txt"),
        synonyms=str(tmp_path / "synonyms.txt"),
    )  # fmt: skip
    train(config, out, True, Silent())
    after, facts = load_checkpoint(out / "checkpoint.safetensors")

    def vectors(model: DualEncoder, words: list[str]) -> torch.Tensor:
        with torch.no_grad():
            return model.encode_text(torch.from_numpy(encode(facts.tokenizer, words, 12)))

    names = list(toy.COLOURS)
    assert (vectors(before, names) * vectors(after, names)).sum(1).mean() > 0.9
    assert (vectors(after, ["crimson"]) @ vectors(after, names).T).argmax() == names.index("red")
    assert torch.equal(before.state_dict()["image.head.weight"], after.state_dict()["image.head.weight"])


def test_distillation_alone_follows_the_teacher(tmp_path: Path) -> None:
    made = toy.pictures(16, 1)
    toy.write_tar(tmp_path / "train.tar", made)
    teachers = toy.write_teachers(tmp_path, made[:-30])  # the last pictures the teacher has never seen
    phase = {**BOTH, "train": ["image"], "epochs": 5, "pair": 0.0, "distill": 1.0, "learning_rate": 5e-3}
    config = toy.write_config(tmp_path, [phase], teachers={"image": teachers["image"]})
    train(config, tmp_path / "out", False, Silent())
    assert history(tmp_path / "out")[-1]["loss"] < 0.4 < 0.5 < history(tmp_path / "out")[0]["loss"]
    model, _ = load_checkpoint(tmp_path / "out" / "checkpoint.safetensors")
    pairs = read_pairs([str(tmp_path / "train.tar")])
    known = run.teacher_space(teachers["image"], pairs.keys, 8).images[:-30]
    unseen = embed_pictures(model, pairs, 16)[-30:]
    nearest = (unseen @ known.T).argmax(1)
    assert (pairs.class_ids[nearest] == pairs.class_ids[-30:]).mean() > 0.8


@pytest.mark.parametrize(("most", "wanted"), [(5.0, 5.0), (1e6, None)])
def test_the_temperature_is_clamped(tmp_path: Path, most: float, wanted: float | None) -> None:
    config = toy.write_config(tmp_path, [{**BRIEF, "learning_rate": 0.1, "warmup": 0.0}], max_scale=most)
    train(config, tmp_path / "out", False, Silent())
    scale = history(tmp_path / "out")[0]["scale"]
    if wanted:
        assert scale <= wanted * 1.0001
        assert saved(tmp_path / "out")["model"]["log_scale"].exp() <= wanted * 1.0001
    else:
        assert scale > 5.1


def test_a_run_leaves_its_figures_and_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "draw_curves", draw_curves)
    config = toy.write_config(tmp_path, [{**BRIEF, "epochs": 2}, {**BRIEF, "name": "more"}])
    out = tmp_path / "out"
    figures = train(config, out, False, Silent())
    rows = history(out)
    assert [(row["phase"], row["epoch"]) for row in rows] == [("pairs", 1), ("pairs", 2), ("more", 1)]
    for row in rows:
        assert set(row) == {"phase", "epoch", "loss", "scale", "seconds", "top1", "top5", "n", "r1", "r5"}
        assert row["n"] == 36
        assert 0 <= row["top1"] <= row["top5"] <= 1
    assert rows[-1] == figures
    picture = cv2.imread(str(out / "curves.png"))
    assert picture is not None
    assert np.ptp(picture.astype(int), axis=2).max() > 60
    assert sorted(path.name for path in out.iterdir()) == [
        *("checkpoint.safetensors", "curves.png", "history.jsonl", "state.pt", "tokenizer.json")
    ]
    tokenizer = load_tokenizer(out / "tokenizer.json")
    text = (out / "tokenizer.json").read_text(encoding="utf-8")
    phrases = ["a photo of a red", "Pink!", "a purple zebra"]
    assert tokenizer.encode_batch(phrases, 12, 0)[:, :3].tolist() == encode(text, phrases, 12)[:, :3].tolist()


# -- stopping and going on ---------------------------------------------------------------------------------------------


def test_a_seed_is_a_run(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(toy.write_config(tmp_path, [BRIEF], seed=seed), tmp_path / name, False, Silent())
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (tmp_path / "b" / "tokenizer.json").read_bytes()
    weights = [saved(tmp_path / name)["model"]["image.head.weight"] for name in ("a", "c")]
    assert not torch.equal(*weights)


def without_time(out: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history(out)]


def test_a_run_stopped_after_every_write_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever file is written, the power goes right after it; the run is resumed, until it is through."""
    made = toy.pictures(16, 1)
    toy.write_tar(tmp_path / "train.tar", made)
    teachers = toy.write_teachers(tmp_path, made)
    looks = {**BRIEF, "train": ["image"], "loss": "bank", "name": "looks", "distill": 1.0, "soft": 1.0}
    config = toy.write_config(
        tmp_path, [{**BRIEF, "epochs": 2}, looks], teachers={"image": teachers["image"]}, checkpoint_every_s=1e-9
    )
    train(config, tmp_path / "whole", False, Silent())

    class PowerCut(BaseException):
        pass

    out = tmp_path / "cut"
    kept: set[tuple[Path, bytes]] = set()
    writes: list[str] = []

    @contextmanager
    def cutting(path: Path, mode: str = "wb") -> Iterator[Any]:
        with atomic_write(path, mode) as stream:
            yield stream
        content = Path(path).read_bytes()
        if (path, content) not in kept:
            kept.add((path, content))
            writes.append(Path(path).name)
            raise PowerCut

    for module in ("run", "checkpoint", "space"):
        monkeypatch.setattr(f"edgeclip.train.{module}.atomic_write", cutting)
    figures = None
    for _ in range(60):
        with suppress(PowerCut):
            figures = train(config, out, (out / "state.pt").exists(), Silent())
            break
    assert figures is not None
    # A state for each of 9 batches, 3 epochs and 2 phases, at least.
    assert writes.count("state.pt") >= 14
    assert {"tokenizer.json", "space.npz", "history.jsonl", "checkpoint.safetensors"} <= set(writes)
    assert_same_weights(tmp_path / "whole", out)
    assert without_time(out) == without_time(tmp_path / "whole")


def start(config: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "edgeclip", "train", str(config), "--out", str(out), *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_run_killed_with_kill_9_resumes_and_ends_as_one_that_was_not(tmp_path: Path) -> None:
    phase = {**BOTH, "batch": 8, "epochs": 3}
    config = toy.write_config(tmp_path, [phase, {**BRIEF, "name": "more"}], checkpoint_every_s=1e-9)
    out, deadline_s = tmp_path / "killed", time.monotonic() + 60
    child = start(config, out)
    try:
        while not ((out / "state.pt").exists() and saved(out)["batch"] in range(2, 7)):
            assert child.poll() is None, child.communicate()
            assert time.monotonic() < deadline_s
            time.sleep(0.002)
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == -signal.SIGKILL
    state = saved(out)
    assert 0 < state["batch"] < 12  # in the middle of an epoch of twelve
    assert not (out / "checkpoint.safetensors").exists()
    resumed = start(config, out, "--resume")
    stdout, stderr = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, stderr.decode()
    assert f"resumed in phase pairs, epoch {state['epoch'] + 1}" in stderr.decode()
    assert stdout.decode().startswith(f"{out / 'checkpoint.safetensors'}: top-1 ")
    train(config, tmp_path / "whole", False, Silent())
    assert_same_weights(tmp_path / "whole", out)
    assert without_time(out) == without_time(tmp_path / "whole")


def test_a_finished_run_resumes_to_its_end(tmp_path: Path) -> None:
    config, out = toy.write_config(tmp_path, [BRIEF]), tmp_path / "out"
    figures = train(config, out, False, Silent())
    before = (out / "checkpoint.safetensors").read_bytes()
    assert train(config, out, True, Silent()) == figures
    assert (out / "checkpoint.safetensors").read_bytes() == before


def test_a_phase_added_later_goes_on_from_the_end(tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(toy.write_config(tmp_path, [BRIEF]), out, False, Silent())
    longer = toy.write_config(tmp_path, [BRIEF, {**BRIEF, "name": "more"}])
    train(longer, out, True, Silent())
    train(longer, tmp_path / "whole", False, Silent())
    assert_same_weights(tmp_path / "whole", out)


def test_resume_without_a_state_begins(tmp_path: Path) -> None:
    train(toy.write_config(tmp_path, [BRIEF]), tmp_path / "out", True, Silent())
    assert (tmp_path / "out" / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("damage", ["cut", "foreign", "other towers", "other phase"])
def test_a_state_that_does_not_continue_is_refused(tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    train(toy.write_config(tmp_path, [{**BRIEF, "epochs": 2}]), out, False, Silent())
    state = out / "state.pt"
    config = toy.write_config(tmp_path, [{**BRIEF, "epochs": 2}])
    if damage == "cut":
        state.write_bytes(state.read_bytes()[:-500])
    elif damage == "foreign":
        state.write_bytes(b"a note somebody left here\n" * 20)
    elif damage == "other towers":
        config = toy.write_config(tmp_path, [BRIEF], towers={**toy.TOWERS, "dim": 12})
    else:
        stored = saved(out)
        torch.save({**stored, "phase": 0, "epoch": 1, "optimiser": {"state": {}, "param_groups": []}}, state)
    with pytest.raises(DataError, match=r"state\.pt does not continue"):
        train(config, out, True, Silent())


# -- mistakes ----------------------------------------------------------------------------------------------------------


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert said.err.splitlines()[-2].startswith("error: ")
    assert said.err.splitlines()[-1].startswith("  fix: ")
    return said.err


def test_a_run_already_begun_is_not_begun_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = toy.write_config(tmp_path, [BRIEF]), tmp_path / "out"
    out.mkdir()
    (out / "state.pt").write_bytes(b"precious")
    assert main(["train", str(config), "--out", str(out)]) == CONFIGURATION
    said = complaint(capsys)
    assert "state.pt exists" in said
    assert "--resume" in said
    assert (out / "state.pt").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("change", "line", "named"),
    [
        ({"sede": 1}, "sede: 1", ["unknown key `sede`", "did you mean `seed`?"]),
        ({"ema": 1.5}, "ema: 1.5", ["`ema`", "1.0"]),
        ({"seed": "x"}, "seed: x", ["`seed`", "int"]),
        ({"templates": []}, "templates: []", ["`templates`"]),
        ({"templates": ["a photo"]}, None, ["template 'a photo'", "{}"]),
        ({"phases": []}, "phases: []", ["`phases`"]),
        ({"phases": [{**BRIEF, "loss": "hinge"}]}, "  loss: hinge", ["`phases.0.loss`", "hinge"]),
        ({"phases": [{**BRIEF, "bach": 8}]}, "  bach: 8", ["unknown key `phases.0.bach`", "`batch`"]),
        ({"phases": [{**BRIEF, "epochs": 0}]}, "  epochs: 0", ["`phases.0.epochs`", "1"]),
        ({"phases": [{**BRIEF, "train": []}]}, "- name: pairs", ["`phases.0`", "trains nothing"]),
        ({"phases": [{**BRIEF, "loss": "bank"}]}, "- name: pairs", ["`phases.0`", "fixed bank"]),
        ({"phases": [{**BRIEF, "soft": 1.0}]}, "- name: pairs", ["`phases.0`", "soft"]),
        ({"phases": [{**BRIEF, "pair": 0.0}]}, "- name: pairs", ["`phases.0`", "no loss"]),
        ({"phases": [{**BRIEF, "images": "teacher"}]}, "- name: pairs", ["`phases.0`", "no pixels"]),
        ({"phases": [{**BRIEF, "distill": 1.0}]}, None, ["phase pairs distils", "teachers.image"]),
        ({"phases": [{**BRIEF, "anchor": 1.0}]}, None, ["phase pairs anchors", "teachers.text"]),
        ({"phases": [{**BRIEF, "neighbours": 1.0}]}, "- name: pairs", ["phase pairs: neighbours", "to [text]"]),
        ({"phases": [{**BRIEF, "answers": 1.0}]}, "- name: pairs", ["`phases.0`", "answers"]),
        (  # the only loss of its phase
            {"phases": [{**BRIEF, "train": ["image"], "pair": 0.0, "answers": 1.0}]},
            None,
            ["phase pairs has answers", "teachers.bank"],
        ),
        ({"towers": {**toy.TOWERS, "text": {"width": 9}}}, "  text:", ["`towers.text`", "heads"]),
    ],
)
def test_a_mistake_in_the_configuration_is_told_by_file_line_and_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], line: str | None, named: list[str]
) -> None:
    path = toy.write_config(tmp_path, **{"phases": [BRIEF], **change})
    assert main(["train", str(path), "--out", str(tmp_path / "out")]) == CONFIGURATION
    said = complaint(capsys)
    number = path.read_text().splitlines().index(line) + 1 if line else 1
    assert f"{path}:{number}: " in said
    for part in named:
        assert part in said
    assert not (tmp_path / "out").exists()


def test_a_vit_cannot_be_trained_at_other_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vit = {"kind": "vit", "patch": 8, "width": 16, "depth": 1, "heads": 2}
    path = toy.write_config(tmp_path, [{**BRIEF, "sizes": [[0.0, 8]]}], towers={**toy.TOWERS, "image": vit})
    assert main(["train", str(path), "--out", str(tmp_path / "out")]) == CONFIGURATION
    assert "a ViT is trained at its size of 16 alone" in complaint(capsys)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"data": {"train": ["none.tar"], "dev": "dev.tar"}}, "none.tar"),
        ({"data": {"train": ["train.tar"], "dev": "none.tar"}}, "none.tar"),
        ({"data": {"train": ["train.tar"], "dev": "dev.tar", "dev_labels": "none.txt"}}, "none.txt"),
        ({"data": {"train": ["train.tar"], "dev": "dev.tar", "dev_labels": "odd.txt"}}, "odd.txt"),
        ({"corpus": "none.txt"}, "none.txt"),
        ({"teachers": {"image": "none.npz"}}, "none.npz"),
        ({"phases": [{**BRIEF, "batch": 500}]}, "96 pairs are fewer than a batch of 500"),
        ({"phases": [{**BRIEF, "learning_rate": 1e30, "warmup": 0.0, "epochs": 4}]}, "lower its learning_rate"),
    ],
)
def test_data_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: Any, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.txt").write_text("mauve\n", encoding="utf-8")
    path = toy.write_config(tmp_path, **{"phases": [BRIEF], **change})
    assert main(["train", str(path), "--out", "out"]) == BAD_DATA
    assert named in complaint(capsys)


def test_the_default_folder_is_named_after_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(toy.write_config(tmp_path, [BRIEF]))]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("runs/toy/checkpoint.safetensors: top-1 ")
    assert "pairs 1/1: loss " in said.err
    assert (tmp_path / "runs" / "toy" / "checkpoint.safetensors").exists()


def test_help_says_what_goes_in_and_what_comes_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for part in (
        "CONFIG.yaml",
        "--out",
        "--resume",
        "checkpoint.safetensors",
        "history.jsonl",
        "tar shards",
        "kill -9",
    ):
        assert part in said
    example = Path(__file__).parents[2] / "engines" / "nano-train.yaml"
    assert "engines/nano-train.yaml" in said
    assert run.load_yaml(example, run.TrainConfig).name == yaml.safe_load(example.read_text())["name"]
