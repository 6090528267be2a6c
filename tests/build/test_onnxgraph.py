"""Q/DQ where it belongs and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeclip.build.onnxgraph import check_native, multiplications, observe, session, write_weights
from edgeclip.build.sites import Graph, sites_of
from edgeclip.build.spec import by_greatest, quantized
from edgeclip.errors import DataError

KINDS = ("Conv", "Gemm", "MatMul")


@pytest.fixture
def residual(tmp_path: Path) -> Path:
    """A convolution with a residual Add, a MatMul of two activations, and a Gemm: [1, 4, 6, 6] -> [1, 3]."""
    random = np.random.default_rng(0)
    stored = {
        "w": random.normal(size=(4, 4, 3, 3)) * np.array([0.01, 0.1, 1.0, 10.0]).reshape(4, 1, 1, 1),
        "g": random.normal(size=(3, 4)),
        "b": random.normal(size=3),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["y"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["y"], ["r"], "relu"),
        helper.make_node("Add", ["r", "input"], ["s"], "residual"),
        helper.make_node("MatMul", ["s", "s"], ["m"], "attention"),
        helper.make_node("GlobalAveragePool", ["m"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "g", "b"], ["vector"], "head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 4, 6, 6])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in stored.items()],
    )
    path = tmp_path / "image.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return path


def frames(count: int) -> list[np.ndarray]:
    return [np.random.default_rng(i).normal(size=(1, 4, 6, 6)).astype(np.float32) for i in range(count)]


def test_only_multiplications_with_stored_weights_count(residual: Path) -> None:
    assert [node.name for node in multiplications(onnx.load(str(residual)), KINDS)] == ["conv", "head"]


def test_ranges_are_the_least_and_the_greatest(residual: Path) -> None:
    some = frames(5)
    ranges = observe(residual, KINDS, some)
    assert set(ranges) == {"input", "f"}
    assert ranges["input"] == (min(float(f.min()) for f in some), max(float(f.max()) for f in some))


def test_qdq_is_at_multiplications_and_nowhere_else(residual: Path) -> None:
    some = frames(20)
    ranges = observe(residual, KINDS, some)
    graph = Graph.load(residual)
    sites = sites_of(graph, KINDS)
    model = quantized(graph, sites, by_greatest(sites, {n: max(-low, high) for n, (low, high) in ranges.items()}, ()))
    made_by = {node.output[0]: node.op_type for node in model.graph.node}
    by_name = {node.name: node for node in model.graph.node}
    for name in ("conv", "head"):
        assert [made_by[tensor] for tensor in by_name[name].input[:2]] == ["DequantizeLinear"] * 2
    for name in ("residual", "attention", "pool"):
        assert "DequantizeLinear" not in {made_by.get(tensor) for tensor in by_name[name].input}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert "w" not in stored
    assert "g" not in stored
    assert stored["y.weight.int8"].dtype == np.int8
    assert stored["y.weight.scale"].shape == (4,)
    assert stored["vector.weight.scale"].shape == (3,)
    assert stored["input.scale"] == pytest.approx(max(-ranges["input"][0], ranges["input"][1]) / 127.0)
    assert not any(value.any() for name, value in stored.items() if name.endswith(".zero"))  # symmetric
    float_rows = np.concatenate([session(residual).run(None, {"input": f})[0] for f in some])
    int8_rows = np.concatenate([session(model.SerializeToString()).run(None, {"input": f})[0] for f in some])
    cosine = (float_rows * int8_rows).sum(1) / np.linalg.norm(float_rows, axis=1) / np.linalg.norm(int8_rows, axis=1)
    assert cosine.mean() > 0.999


def test_weights_alone_take_a_byte_and_the_table_too(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(1000, 32)).astype(np.float32)
    weight = np.random.default_rng(1).normal(size=(32, 64)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["x"], "look up"),
            helper.make_node("MatMul", ["x", "weight"], ["y"], "multiply"),
        ],
        "text",
        [helper.make_tensor_value_info("ids", TensorProto.INT32, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 64])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(weight, "weight")],
    )
    path = tmp_path / "text.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    small = write_weights(path)
    assert len(small) < 0.35 * path.stat().st_size
    ids = np.array([[3, 500, 999]], np.int32)
    want, got = (session(model).run(None, {"ids": ids})[0] for model in (path, small))
    assert np.abs(want - got).max() < 0.02 * np.abs(want).max()


def test_decomposed_layer_norms_are_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Pow", ["input", "two"], ["vector"], "square")],
        "decomposed",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.array(2.0, np.float32), "two")],
    )
    path = tmp_path / "text.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    with pytest.raises(DataError, match="0 native LayerNormalization nodes for 1 layers"):
        check_native(path, 1)
