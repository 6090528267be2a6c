from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_bundle import write_bundle

from edgeclip.bundle import Bundle, open_bundle, write_digests
from edgeclip.describe import describe, packed_name
from edgeclip.errors import DataError


def test_manifest_engines_and_sizes(tiny: Bundle) -> None:
    facts = describe(tiny)
    assert json.loads(json.dumps(facts)) == json.loads(json.dumps(facts))
    assert (facts["name"], facts["dim"], facts["schema"]) == ("tiny", 16, 1)
    assert [entry["file"] for entry in facts["engines"]] == ["image.tflite", "image.onnx", "text.tflite", "text.onnx"]
    for entry in facts["engines"]:
        assert entry["bytes"] == (tiny.path / entry["file"]).stat().st_size
    assert facts["bytes"] == sum(path.stat().st_size for path in tiny.path.iterdir())
    assert facts["golden"] == {"file": "golden.npz", "frames": 6}
    assert facts["frames"] is None
    assert facts["report"] is None
    assert facts["checked"] == "7 files match SHA256SUMS"


def test_report(tmp_path: Path) -> None:
    directory = write_bundle(tmp_path / "b")
    (directory / "report.json").write_text('{"frames": 85}')
    write_digests(directory)
    assert describe(open_bundle(directory))["report"] == {"frames": 85}
    (directory / "report.json").write_text("{")
    write_digests(directory)
    with pytest.raises(DataError, match=r"report\.json"):
        describe(open_bundle(directory))


@pytest.mark.parametrize(
    ("file", "precision", "name"),
    [
        ("image.static.tflite", "int8 static", "image.tflite"),
        ("image.float.tflite", "float32", "image.tflite"),
        ("image.onnx", "int8 static Q/DQ", "image.onnx"),
        ("image.float.onnx", "float32", "image.float.onnx"),
        ("text.tflite", "int8 weights", "text.tflite"),
    ],
)
def test_what_was_measured_has_its_name_in_the_bundle(file: str, precision: str, name: str) -> None:
    assert packed_name(file, precision) == name
