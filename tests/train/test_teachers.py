from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import test_sentence
import toy
from onnx import TensorProto, helper, numpy_helper

from edgeclip.errors import BAD_DATA
from edgeclip.progress import Silent
from edgeclip.train import teachers
from edgeclip.train.data import read_pairs
from edgeclip.train.teachers import CLIP_SIDE, clip_pixels, image_space, main, text_space

MADE = toy.pictures(1)


@pytest.fixture
def shard(tmp_path: Path) -> str:
    return str(toy.write_tar(tmp_path / "train.tar", MADE))


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    """An ONNX whose embedding is the mean of each channel, and the sum of the three."""
    weight = np.concatenate([np.eye(3), np.ones((3, 1))], 1).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["embedding"]),
        ],
        "tower",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, CLIP_SIDE, CLIP_SIDE])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(weight, "weight")],
    )
    path = tmp_path / "tower.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def stored(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(zip(file["keys"].tolist(), file["embeddings"].astype(np.float32), strict=True))


@pytest.mark.parametrize("shape", [(50, 50), (40, 90), (300, 231), (224, 224)])
def test_pixels_are_those_of_the_original_clip(shape: tuple[int, int]) -> None:
    rgb = np.zeros((*shape, 3), np.uint8)
    rgb[...] = (10, 128, 250)
    pixels = clip_pixels(rgb)
    assert pixels.shape == (3, 224, 224)
    assert pixels.dtype == np.float32
    wanted = (np.array([10, 128, 250]) / 255 - [0.48145466, 0.4578275, 0.40821073]) / [
        0.26862954,
        0.26130258,
        0.27577711,
    ]
    np.testing.assert_allclose(pixels.mean((1, 2)), wanted, atol=1e-4)


def test_the_crop_is_in_the_middle() -> None:
    rgb = np.zeros((224, 624, 3), np.uint8)
    rgb[:, 200:424] = 255
    assert (clip_pixels(rgb) > 1).all()


def test_image_embeddings_by_key(tower: Path, shard: str, tmp_path: Path) -> None:
    image_space(tower, [shard], tmp_path / "out.npz", 1, Silent())
    found, pairs = stored(tmp_path / "out.npz"), read_pairs([shard])
    assert list(found) == pairs.keys
    for key, picture in zip(pairs.keys, pairs.pictures(), strict=True):
        means = clip_pixels(picture).mean((1, 2))
        np.testing.assert_allclose(found[key], [*means, means.sum()], atol=5e-3)
    assert not list(tmp_path.glob("*.part*"))


def test_a_stopped_run_goes_on_from_its_part_file(
    tower: Path, shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.npz"
    monkeypatch.setattr(teachers, "SAVE_EVERY", 2)
    embedded = []

    def until_the_power_goes(rgb: np.ndarray) -> np.ndarray:
        embedded.append(rgb)
        if len(embedded) == 4:
            raise KeyboardInterrupt
        return clip_pixels(rgb)

    monkeypatch.setattr(teachers, "clip_pixels", until_the_power_goes)
    with pytest.raises(KeyboardInterrupt):
        image_space(tower, [shard], out, 1, Silent())
    assert not out.exists()
    image_space(tower, [shard], out, 1, Silent())
    assert len(embedded) == 4 + len(MADE) - 2  # two were kept
    monkeypatch.setattr(teachers, "clip_pixels", clip_pixels)
    image_space(tower, [shard], tmp_path / "whole.npz", 1, Silent())
    one, two = stored(out), stored(tmp_path / "whole.npz")
    assert list(one) == list(two)
    assert all(np.array_equal(one[key], two[key]) for key in one)


def test_a_part_file_of_another_teacher_is_not_gone_on_from(tower: Path, shard: str, tmp_path: Path) -> None:
    out, pairs = tmp_path / "out.npz", read_pairs([shard])
    foreign = np.full((1, 4), 7.0, np.float16)
    for more in ({}, {"teacher": np.array("another")}):
        np.savez(tmp_path / "out.part.npz", keys=np.array(pairs.keys[:1]), embeddings=foreign, **more)
        image_space(tower, [shard], out, 1, Silent())
        assert not np.array_equal(stored(out)[pairs.keys[0]], foreign[0])


def test_phrases_of_files_bank_and_data_are_embedded_once(shard: str, tmp_path: Path) -> None:
    model = test_sentence.write_model(tmp_path / "model")
    (tmp_path / "corpus.txt").write_text("a photo of a dog\n\nred\ncat\n", encoding="utf-8")
    np.savez(tmp_path / "bank.npz", names=np.array(["cat", "wall-brick"]), embeddings=np.ones((2, 3)))
    out = tmp_path / "text.npz"
    text_space(model, [tmp_path / "corpus.txt"], tmp_path / "bank.npz", [shard], out, Silent())
    found = stored(out)
    assert set(found) == {"a photo of a dog", "cat", "brick wall", *toy.COLOURS}
    wanted = test_sentence.SentenceEncoder(model).encode(["brick wall"]).numpy()[0]
    np.testing.assert_allclose(found["brick wall"], wanted, atol=2e-3)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["teachers", *map(str, arguments)])
    return main()


def test_the_command_embeds_pictures(tower: Path, shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "image", "--onnx", tower, "--data", shard, "--out", tmp_path / "o.npz") == 0
    assert len(stored(tmp_path / "o.npz")) == len(MADE)


def test_mistakes_are_told_with_their_remedy(
    tower: Path, shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.npz"
    (tmp_path / "bad.onnx").write_bytes(b"not an ONNX file")
    for arguments, named in (
        (("image", "--onnx", tmp_path / "none.onnx", "--data", shard, "--out", out), "none.onnx"),
        (("image", "--onnx", tmp_path / "bad.onnx", "--data", shard, "--out", out), "bad.onnx"),
        (("image", "--onnx", tower, "--data", tmp_path / "none.tar", "--out", out), "none.tar"),
        (("text", "--model", tmp_path / "none", "--out", out), "none holds no config.json"),
        (("text", "--model", tmp_path, "--phrases", tmp_path / "no.txt", "--out", out), "config.json"),
    ):
        assert run(monkeypatch, *arguments) == BAD_DATA
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert "error: " in said
        assert named in said
        assert "fix: " in said
    assert not out.exists()
