"""Embeddings of frames are added to a small bundle that is there, by its own engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_bundle import Weights, reference

from edgeclip.bundle import FRAMES, Bundle, open_bundle
from edgeclip.cli import main
from edgeclip.errors import BAD_DATA, OK, USAGE
from edgeclip.runtime.frames import load_frames
from edgeclip.runtime.preprocess import Preprocessor

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("photographs"), np.random.default_rng(3)
    for index in range(70):
        coarse = random.integers(0, 256, (4, 4, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index:03}.png"), cv2.resize(coarse, (48, 48), interpolation=cv2.INTER_LINEAR))
    return folder


@pytest.fixture
def bundle(tiny: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny.path, tmp_path / "bundle"))


def test_frames_are_added_in_place_and_again_without_a_change(
    bundle: Path, photographs: Path, capsys: Captured
) -> None:
    words = ["bundle", "frames", str(bundle), "--calibration", str(photographs), "--json"]
    before = open_bundle(bundle).manifest
    assert main(words) == OK
    said = json.loads(capsys.readouterr().out)
    assert said == {
        "bundle": str(bundle),
        "frames": 70,
        "bytes": (bundle / FRAMES).stat().st_size,
        "changed": True,
    }
    opened = open_bundle(bundle)
    assert (opened.manifest.space, opened.manifest.engines) == (before.space, before.engines)
    found, preprocess = load_frames(opened), Preprocessor(opened.manifest.preprocess)
    assert found is not None
    seen = [preprocess(cv2.imread(str(path))).copy() for path in sorted(photographs.iterdir())]
    np.testing.assert_allclose(found, reference(Weights(), np.concatenate(seen)), atol=2e-3)

    assert main(words) == OK
    assert json.loads(capsys.readouterr().out)["changed"] is False


def test_fewer_are_drawn_and_written_elsewhere(bundle: Path, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "other.tar"
    words = ["bundle", "frames", str(bundle), "--calibration", str(photographs), "--frames", "24", "--out", str(out)]
    assert main(words) == OK
    found = load_frames(open_bundle(out))
    assert found is not None
    assert len(found) == 24
    assert open_bundle(bundle).manifest.frames is None


@pytest.mark.parametrize(
    ("place", "options", "code"),
    [("nowhere", [], BAD_DATA), ("few", [], BAD_DATA), ("", ["--frames", "5000"], USAGE)],
)
def test_what_cannot_be_used_changes_nothing(
    place: str, options: list[str], code: int, bundle: Path, photographs: Path, tmp_path: Path
) -> None:
    (tmp_path / "few").mkdir()
    shutil.copy(photographs / "000.png", tmp_path / "few")
    asked = tmp_path / place if place else photographs
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    assert main(["bundle", "frames", str(bundle), "--calibration", str(asked), *options]) == code
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
