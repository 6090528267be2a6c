"""Whole runs on colours, seconds each: every kind of phase learns."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import toy
from toy import BOTH, BRIEF, history, saved

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
pytestmark = pytest.mark.usefixtures("quick_curves")


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
