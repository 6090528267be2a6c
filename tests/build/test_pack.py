"""What a measured candidate becomes in the manifest."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_report import candidate
from tiny_bundle import engine, write_bundle

from edgeclip.build.pack import entry_of
from edgeclip.build.quantize import DYNAMIC, ON_OPENVINO, QDQ, STATIC
from edgeclip.bundle import open_bundle
from edgeclip.compile.bundles import sources


@pytest.mark.parametrize(
    ("file", "precision", "packed", "runtime"),
    [
        ("image.static.tflite", STATIC, "image.tflite", "tflite"),
        ("image.dynamic.tflite", DYNAMIC, "image.tflite", "litert"),
        ("image.onnx", QDQ, "image.onnx", "onnxruntime"),
        ("image.openvino.onnx", ON_OPENVINO, "image.onnx", "openvino"),
        ("image.float.onnx", "float32", "image.float.onnx", "onnxruntime"),
    ],
)
def test_file_and_runtime_of_an_entry(file: str, precision: str, packed: str, runtime: str) -> None:
    entry = entry_of(candidate(file, 1.0, precision=precision))
    assert (entry.file, entry.target.runtime) == (packed, runtime)
    assert "OpenVINO" not in entry.precision


def test_a_file_that_stands_there_for_two_runtimes_is_compiled_once(tmp_path: Path) -> None:
    twice = (engine("image", "onnx", "openvino"), engine("image", "onnx", "onnxruntime"), engine("text", "onnx"))
    bundle = open_bundle(write_bundle(tmp_path / "b", engines=twice))
    assert [entry.file for entry in sources(bundle)] == ["image.onnx", "text.onnx"]
