from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_bundle import Weights, engine, write_bundle, write_image_tflite

from edgeclip.bundle import Bundle, open_bundle, write_digests
from edgeclip.verify import Verdict, verify_bundle


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two pictures of two classes."""
    for number, name in enumerate(("dog", "cat")):
        (tmp_path / "data" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "data" / name / "0.png"), np.full((40, 40, 3), 200 * number, np.uint8))
    return tmp_path / "data"


def reported(tiny_path: Path, folder: Path, float_top1: float, **changes: object) -> Bundle:
    """The tiny bundle with a report that says what float reached on `data`."""
    copy = Path(shutil.copytree(tiny_path, folder / "copy"))
    spread = {"mean": 0.999, "p1": 0.99, "min": 0.98}
    itself = {"centred": {"mean": 1.0, "p1": 1.0, "min": 1.0}}
    report = {
        "origin": "labelled, data", "frames": 2, "labels": 2, "floating": {"top1": float_top1, "top5": 100.0},
        "images": [
            {"file": "image.dynamic.tflite", "kept": False, "distance": {"centred": {**spread, "mean": 0.5}}},
            {"file": "image.float.onnx", "precision": "float32", "kept": True, "distance": itself},
            {"file": "image.static.tflite", "kept": True, "distance": {"centred": spread}},
        ],
        **changes,
    }  # fmt: skip
    (copy / "report.json").write_text(json.dumps(report))
    write_digests(copy)
    return open_bundle(copy)


def files_of(verdict: Verdict) -> list[str]:
    """Each once, however many runtimes here it was tried on."""
    return list(dict.fromkeys(one.file for one in verdict.engines))


def test_a_sound_bundle_passes_on_every_runtime_here(tiny: Bundle) -> None:
    verdict = verify_bundle(tiny)
    assert verdict.passed
    assert files_of(verdict) == ["image.tflite", "image.onnx"]
    assert all(one.centred is not None and one.centred > 0.99 for one in verdict.engines)
    assert verdict.int8 is None
    assert verdict.floating is None


def test_one_engine_that_drifted_fails_the_bundle_and_is_named(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", engines=(engine("image", "onnx"), engine("image", "tflite")))
    other = Weights()
    rng = np.random.default_rng(9)
    for array in (value for value in vars(other).values() if isinstance(value, np.ndarray)):
        array[...] = rng.normal(size=array.shape)
    write_image_tflite(folder / "image.tflite", other)
    write_digests(folder)
    verdict = verify_bundle(open_bundle(folder))
    assert not verdict.passed
    assert [failure.split()[0] for failure in verdict.failed] == ["image.tflite"]


def test_a_bundle_that_runs_nowhere_fails(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", engines=(engine("image", "plan", "tensorrt"), engine("text", "onnx")))
    assert verify_bundle(open_bundle(folder)).failed == ("no image engine runs here",)


@pytest.mark.parametrize(("off_by", "passed"), [(0.4, True), (0.6, False)])
def test_accuracy_is_held_against_the_float_figure(
    tiny_path: Path, tmp_path: Path, data: Path, off_by: float, passed: bool
) -> None:
    measured = verify_bundle(open_bundle(tiny_path), data).int8
    assert measured is not None
    verdict = verify_bundle(reported(tiny_path, tmp_path, measured.top1 + off_by), data)
    assert verdict.floating is not None
    assert verdict.floating.top1 == pytest.approx(measured.top1 + off_by)
    assert verdict.int8 == measured
    assert verdict.cosine_centred is not None
    assert (verdict.cosine_centred.mean, verdict.cosine_centred.frames) == (0.999, 2)
    assert verdict.passed == passed
    assert passed or "top-1" in verdict.failed[0]


@pytest.mark.parametrize("changes", [{"frames": 3}, {"labels": 5}, {"origin": "held out of the calibration set"}])
def test_a_float_figure_of_other_data_is_not_compared(
    tiny_path: Path, tmp_path: Path, data: Path, changes: dict[str, object]
) -> None:
    verdict = verify_bundle(reported(tiny_path, tmp_path, 250.0, **changes), data)
    assert verdict.passed
    assert verdict.floating is None


def test_a_plan_for_a_gpu_that_is_not_here_is_no_failure(tmp_path: Path) -> None:
    forms = (engine("image", "plan", "tensorrt"), engine("image", "onnx"), engine("text", "onnx"))
    verdict = verify_bundle(open_bundle(write_bundle(tmp_path / "b", engines=forms)))
    assert verdict.passed
    assert files_of(verdict) == ["image.onnx"]
