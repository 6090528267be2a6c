from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeclip.bundle import Preprocess, Scoring
from edgeclip.errors import DataError
from edgeclip.train.checkpoint import CheckpointFacts, load_checkpoint, save_checkpoint
from edgeclip.train.towers import ConvTower, DualEncoder, TextTower, Towers

FACTS = CheckpointFacts(
    name="toy",
    towers=Towers(ConvTower(8, (16, 24), (1, 1), 32), TextTower(64, 8, 16, 1, 2), 16, 8),
    preprocess=Preprocess((16, 16), "shortest", "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    scoring=Scoring("softmax", 14.25),
    templates=("a photo of a {}",),
    tokenizer='{"model": "ÄÖ"}',
    training={"top1": 0.5, "phase": "pairs"},
)


@pytest.fixture
def model() -> DualEncoder:
    torch.manual_seed(1)
    return DualEncoder(FACTS.towers)


def metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as stored:
        return dict(stored.metadata() or {})


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path, model: DualEncoder) -> None:
    path = tmp_path / "deep" / "x.safetensors"
    save_checkpoint(path, model, FACTS, half=False)
    back, facts = load_checkpoint(path)
    assert facts == FACTS
    assert not back.training
    assert not any(parameter.requires_grad for parameter in back.parameters())
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


def test_half_halves_the_file_and_little_else(tmp_path: Path, model: DualEncoder) -> None:
    for name, half in (("full", False), ("half", True)):
        save_checkpoint(tmp_path / name, model, FACTS, half=half)
    assert os.path.getsize(tmp_path / "half") < 0.65 * os.path.getsize(tmp_path / "full")
    back, _ = load_checkpoint(tmp_path / "half")
    pixels, ids = torch.randn(4, 3, 16, 16), torch.randint(1, 64, (4, 6))
    model.eval()
    assert back.log_scale.dtype == torch.float32
    torch.testing.assert_close(back.encode_image(pixels), model.encode_image(pixels).detach(), atol=5e-3, rtol=0)
    torch.testing.assert_close(back.encode_text(ids), model.encode_text(ids).detach(), atol=5e-3, rtol=0)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.safetensors does not exist") as caught:
        load_checkpoint(tmp_path / "none.safetensors")
    assert "edgeclip train" in caught.value.hint


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, model: DualEncoder, share: float) -> None:
    path = tmp_path / "cut.safetensors"
    save_checkpoint(path, model, FACTS, half=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"cut\.safetensors is not an edgeclip checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip", b"{}", b"\xff" * 400, b"\x02\0\0\0\0\0\0\0{}"])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"foreign\.safetensors"):
        load_checkpoint(path)


def test_somebody_elses_safetensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    for facts in (None, {"format": "pt"}, {"edgeclip": "not json"}, {"edgeclip": '{"name": "x", "age": 3}'}):
        save_file({"weight": torch.zeros(3)}, path, metadata=facts)
        with pytest.raises(DataError, match=r"other\.safetensors is not an edgeclip checkpoint"):
            load_checkpoint(path)


@pytest.mark.parametrize("change", ["missing", "unexpected", "reshaped"])
def test_tensors_that_do_not_fit_the_towers_are_refused(tmp_path: Path, model: DualEncoder, change: str) -> None:
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, model, FACTS, half=False)
    tensors, facts = load_file(path), metadata(path)
    if change == "missing":
        del tensors["image.head.bias"]
    elif change == "unexpected":
        tensors["image.tail.bias"] = torch.zeros(3)
    else:
        tensors["image.head.bias"] = torch.zeros(3)
    save_file(tensors, path, metadata=facts)
    with pytest.raises(DataError, match=r"image\.(head|tail)\.bias"):
        load_checkpoint(path)
