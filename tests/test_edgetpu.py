"""Which operators a Coral Edge TPU lacks, on graphs written here and on the bundle that ships."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tiny_bundle import TFLiteWriter, engine, write_bundle

from edgeclip.bundle import open_bundle
from edgeclip.cli import main
from edgeclip.edgetpu import Findings, examine, examine_bundle, short
from edgeclip.errors import BAD_DATA, DataError

NANO = Path(__file__).parent.parent / "engines" / "nano"
Build = Callable[[TFLiteWriter, int], int]  # (writer, source [1, 8, 8, 4] int8) -> result


def graph(path: Path, build: Build, shape: tuple[int, ...] = (1, 8, 8, 4)) -> Findings:
    writer = TFLiteWriter()
    source = writer.tensor(shape, np.int8)
    writer.save(path, source, build(writer, source))
    return examine(path)


def convolve(writer: TFLiteWriter, source: int, dilation: int = 1, stored: bool = True) -> int:
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = options.dilationHFactor = 1
    options.dilationWFactor = dilation
    weight = np.ones((4, 1, 1, 4), np.int8)
    kernel = writer.constant(weight) if stored else writer.tensor(weight.shape, np.int8)
    bias = writer.constant(np.zeros(4, np.int32))
    return writer.add("CONV_2D", [source, kernel, bias], (1, 8, 8, 4), options, np.int8)


def relu(writer: TFLiteWriter, source: int, kind: str = "RELU", dtype: type = np.int8) -> int:
    options = {"GELU": schema.GeluOptionsT}.get(kind, lambda: None)()
    return writer.add(kind, [source], (1, 8, 8, 4), options, dtype)


def mean(writer: TFLiteWriter, source: int, axis: int) -> int:
    axes = writer.constant(np.array([axis], np.int32))
    return writer.add("MEAN", [source, axes], (1, 8, 4), schema.ReducerOptionsT(), np.int8)


def test_convolutions_and_relu_in_int8_are_one_piece(tmp_path: Path) -> None:
    found = graph(tmp_path / "a.tflite", lambda w, x: mean(w, relu(w, convolve(w, x)), 1))
    assert found.compatible
    assert found.operators == 3
    assert found.mapped_share == 1.0
    assert not found.in_the_way
    assert not found.ends


@pytest.mark.parametrize(
    ("build", "operator", "reason"),
    [
        (lambda w, x: relu(w, convolve(w, x), "GELU"), "GELU", "no such operator"),
        (lambda w, x: w.add("ADD", [x, w.tensor((1,), np.float32)], (1, 8, 8, 4), None, np.int8), "ADD", "FLOAT32"),
        (lambda w, x: convolve(w, x, dilation=2), "CONV_2D", "dilated by 2 x 1"),
        (lambda w, x: convolve(w, x, stored=False), "CONV_2D", "computed, not stored"),
        (lambda w, x: mean(w, x, 0), "MEAN", "reduces the batch"),
        (lambda w, x: w.add("SOFTMAX", [x], (1, 8, 8, 4), schema.SoftmaxOptionsT(), np.int8), "SOFTMAX", "one-dimen"),
    ],
)
def test_what_the_edge_tpu_lacks_is_named_with_its_reason(
    tmp_path: Path, build: Build, operator: str, reason: str
) -> None:
    found = graph(tmp_path / "a.tflite", lambda w, x: convolve(w, build(w, convolve(w, x))))
    assert [at.operator for at in found.in_the_way] == [operator]
    assert reason in found.in_the_way[0].reason
    assert not found.compatible
    assert any(operator in line and reason in line for line in found.lines())


def test_operators_before_and_behind_its_piece_are_not_in_the_way(tmp_path: Path) -> None:
    found = graph(tmp_path / "a.tflite", lambda w, x: relu(w, convolve(w, relu(w, x, "GELU")), "GELU"))
    assert found.compatible
    assert [at.index for at in found.ends] == [0, 2]


def test_more_than_three_dimensions_are_not_mapped(tmp_path: Path) -> None:
    found = graph(
        tmp_path / "a.tflite", lambda w, x: w.add("RELU", [x], (2, 8, 8, 4), None, np.int8), shape=(2, 8, 8, 4)
    )
    assert not found.compatible
    assert "beyond the 3 innermost" in found.in_the_way[0].reason


def test_nano_keeps_its_convolutions_and_lacks_what_lies_between_them() -> None:
    found = examine_bundle(open_bundle(NANO))
    assert {at.operator for at in found.in_the_way} == {"ADD", "AVERAGE_POOL_2D", "QUANTIZE", "DEQUANTIZE"}
    assert {"CAST", "SQRT", "DIV", "FULLY_CONNECTED"} <= {at.operator for at in found.ends}
    assert found.mapped_share > 0.999


def test_inspect_names_what_is_in_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(NANO), "--edgetpu-compatible"]) == BAD_DATA
    said = capsys.readouterr().err
    assert "in the way" in said
    assert "ADD ImageGraph/ConvImageTower_image/Sequential_blocks/BasicBlock_0" in said
    assert "fix: " in said
    assert main(["inspect", str(NANO), "--edgetpu-compatible", "--json"]) == BAD_DATA
    assert '"compatible": false' in capsys.readouterr().out


def test_a_bundle_without_tflite_and_a_file_that_is_none(tmp_path: Path) -> None:
    only = write_bundle(tmp_path / "b", engines=(engine("image", "onnx"), engine("text", "onnx")))
    with pytest.raises(DataError, match="no TFLite image engine"):
        examine_bundle(open_bundle(only))
    (tmp_path / "no.tflite").write_bytes(b"not a model")
    with pytest.raises(DataError, match="not a TFLite file"):
        examine(tmp_path / "no.tflite")
    (tmp_path / "cut.tflite").write_bytes((NANO / "image.tflite").read_bytes()[:300])
    with pytest.raises(DataError, match="damaged"):
        examine(tmp_path / "cut.tflite")


def test_names_of_tensors_are_shortened() -> None:
    assert short("a.b.Graph/c.d.Tower_image/Linear_head;2") == "Graph/Tower_image/Linear_head;2"
    assert short("x.Y;;a.b.Graph/e.Conv2d_0;1") == "Graph/Conv2d_0;1"
