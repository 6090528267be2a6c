"""A run that begins with another checkpoint's words, taught by that checkpoint's own image tower."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy

from edgeclip.errors import BAD_DATA, CONFIGURATION, DataError
from edgeclip.progress import Silent
from edgeclip.train.checkpoint import load_checkpoint
from edgeclip.train.graft import graft, main
from edgeclip.train.run import train
from edgeclip.train.teachers import checkpoint_space

VIT = {**toy.TOWERS, "image": {"kind": "vit", "patch": 8, "width": 16, "depth": 1, "heads": 2}}
PICTURES: dict[str, Any] = {
    "name": "pictures", "train": ["image"], "loss": "bank", "epochs": 2, "batch": 32, "distill": 1.0, "soft": 1.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained checkpoint, with its data beside it."""
    folder = tmp_path_factory.mktemp("teacher")
    phase = {"name": "pairs", "train": ["image", "text"], "epochs": 2, "batch": 32}
    train(toy.write_config(folder, [phase]), folder / "run", False, Silent())
    return folder


def student(teacher: Path, folder: Path, **values: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    data = {"train": [str(teacher / "train.tar")], "dev": str(teacher / "dev.tar")}
    checkpoint_space(teacher / "run" / "checkpoint.safetensors", data["train"], folder / "teacher.npz", Silent())
    values = {"towers": VIT, "data": data, "teachers": {"image": str(folder / "teacher.npz")}, **values}
    return toy.write_config(folder, [PICTURES], **values)


def test_the_student_keeps_the_words_and_the_space_and_learns_the_pictures(teacher: Path, tmp_path: Path) -> None:
    given = teacher / "run" / "checkpoint.safetensors"
    config = student(teacher, tmp_path)
    graft(config, given, tmp_path / "run")
    with np.load(tmp_path / "run" / "space.npz") as space:
        assert (space["basis"] == np.eye(8)).all()
        assert (space["mean"] == 0).all()
    figures = train(config, tmp_path / "run", True, Silent())
    assert figures["loss"] > 0
    old, old_facts = load_checkpoint(given)
    new, new_facts = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    assert new_facts.tokenizer == old_facts.tokenizer
    ids = torch.arange(1, 13)[None]
    assert torch.allclose(new.encode_text(ids), old.encode_text(ids), atol=1e-3)
    assert type(new.image) is not type(old.image)


def test_embeddings_of_a_checkpoint_are_its_own(teacher: Path, tmp_path: Path) -> None:
    student(teacher, tmp_path)
    with np.load(tmp_path / "teacher.npz") as stored:
        keys, rows = stored["keys"].tolist(), stored["embeddings"].astype(np.float32)
    assert keys[0] == "train/0000"
    assert len(keys) == 16 * len(toy.COLOURS)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=2e-3)


def test_another_text_tower_is_refused(teacher: Path, tmp_path: Path) -> None:
    text = {**toy.TOWERS["text"], "width": 16}
    config = student(teacher, tmp_path, towers={**VIT, "text": text})
    with pytest.raises(DataError, match="are not those of"):
        graft(config, teacher / "run" / "checkpoint.safetensors", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_says_what_is_wrong(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, given = student(teacher, tmp_path), teacher / "run" / "checkpoint.safetensors"

    def run(text_from: Path) -> int:
        words = ["graft", str(config), "--text-from", str(text_from), "--out", str(tmp_path / "run")]
        monkeypatch.setattr(sys, "argv", words)
        return main()

    assert run(tmp_path / "none.safetensors") == BAD_DATA
    assert "fix: " in capsys.readouterr().err
    assert run(given) == 0
    assert run(given) == CONFIGURATION
    assert "a run was begun there" in capsys.readouterr().err
