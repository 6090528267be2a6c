"""Builds for a Coral Edge TPU: a tower of convolutions becomes one piece, a transformer is refused by its operators."""

from __future__ import annotations

from pathlib import Path

import pytest
from small import facts, random_checkpoint, write_recipe

from edgeclip.build.stages import build
from edgeclip.bundle import open_bundle
from edgeclip.edgetpu import examine_bundle
from edgeclip.errors import DataError, UsageError
from edgeclip.train.towers import ViTTower


def test_a_tower_of_convolutions_is_one_piece(place: Path, tmp_path: Path) -> None:
    result = build(place / "small.yaml", work=tmp_path / "work", out=tmp_path / "bundle", edgetpu_compatible=True)
    bundle = open_bundle(result.bundle)
    assert bundle.engines("image")[0].precision == "int8 static"
    assert examine_bundle(bundle).compatible
    assert bundle.manifest.recipe["quantization"]["tflite"]["schemes"] == ["static"]


def test_a_transformer_is_refused_and_nothing_is_written(place: Path, tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "small.safetensors", facts(ViTTower(patch=8, width=32, depth=1, heads=2), 32))
    recipe = write_recipe(tmp_path, calibration=str(place / "frames"))
    with pytest.raises(DataError, match=r"in the way: \d+ .*no such operator") as caught:
        build(recipe, work=tmp_path / "work", out=tmp_path / "bundle", edgetpu_compatible=True)
    assert caught.value.exit_code == 65
    assert not (tmp_path / "bundle").exists()
    with pytest.raises(UsageError, match="not among the targets"):
        build(recipe, work=tmp_path / "work", out=tmp_path / "bundle", targets=["onnx"], edgetpu_compatible=True)
