"""Small Q/DQ ONNX graphs with the bundle's contract, written node by node and quantized by the build's own code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from edgeclip.build.sites import Graph, sites_of
from edgeclip.build.spec import by_greatest, quantized

KINDS = ("Conv", "Gemm", "MatMul")


def quantize(path: Path, reach: float = 4.0) -> None:
    """Put Q/DQ into the float graph at `path`, with made-up ranges."""
    graph = Graph.load(path)
    sites = sites_of(graph, KINDS)
    spec = by_greatest(sites, {site.source: reach for site in sites}, ())
    path.write_bytes(quantized(graph, sites, spec).SerializeToString())


def write_block(path: Path, batch: int | str = 1, size: int = 16, dim: int = 8) -> Path:
    """A tower of everything that matters: uint8 in; convolution, LayerNorm, attention, GELU and a unit vector out."""
    random = np.random.default_rng(0)
    width, tokens = 16, (size // 4) ** 2
    stored: dict[str, np.ndarray] = {
        "gain": np.full(3, 1 / 128), "shift": np.full(3, -1.0),
        "kernel": random.normal(size=(width, 3, 4, 4)) * 0.2, "kernel_bias": random.normal(size=width),
        "gamma": np.ones(width), "beta": np.zeros(width),
        "qkv": random.normal(size=(width, width)) * 0.3, "mlp": random.normal(size=(width, width)) * 0.3,
        "head": random.normal(size=(dim, width)), "head_bias": random.normal(size=dim),
        "root": np.array(2.0**0.5), "one": np.array(1.0), "half": np.array(0.5), "tiny": np.array(1e-12),
    }  # fmt: skip
    integers = {"flat": np.array([0, width, tokens]), "axis": np.array([1]), "last": np.array([1])}
    nodes = [
        helper.make_node("Cast", ["input"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["normal"]),
        helper.make_node("Transpose", ["normal"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel", "kernel_bias"], ["patches"], "patch", strides=[4, 4]),
        helper.make_node("Reshape", ["patches", "flat"], ["flattened"]),
        helper.make_node("Transpose", ["flattened"], ["x"], perm=[0, 2, 1]),
        helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["y"], "norm", axis=-1),
        helper.make_node("MatMul", ["y", "qkv"], ["q"], "project"),
        helper.make_node("Transpose", ["q"], ["k"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "k"], ["logits"], "attend"),
        helper.make_node("Softmax", ["logits"], ["share"], "softmax", axis=-1),
        helper.make_node("MatMul", ["share", "q"], ["mixed"], "mix"),
        helper.make_node("Add", ["mixed", "x"], ["z"], "residual"),
        helper.make_node("MatMul", ["z", "mlp"], ["m"], "widen"),
        helper.make_node("Div", ["m", "root"], ["g1"]),
        helper.make_node("Erf", ["g1"], ["g2"]),
        helper.make_node("Add", ["g2", "one"], ["g3"]),
        helper.make_node("Mul", ["m", "g3"], ["g4"]),
        helper.make_node("Mul", ["g4", "half"], ["gelu"]),
        helper.make_node("ReduceMean", ["gelu", "axis"], ["pooled"], keepdims=0),
        helper.make_node("Gemm", ["pooled", "head", "head_bias"], ["raw"], "project out", transB=1),
        helper.make_node("Mul", ["raw", "raw"], ["square"]),
        helper.make_node("ReduceSum", ["square", "last"], ["sum"], keepdims=1),
        helper.make_node("Max", ["sum", "tiny"], ["safe"]),
        helper.make_node("Sqrt", ["safe"], ["length"]),
        helper.make_node("Div", ["raw", "length"], ["vector"]),
    ]
    initializers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in stored.items()]
    initializers += [numpy_helper.from_array(value.astype(np.int64), name) for name, value in integers.items()]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("input", TensorProto.UINT8, [batch, size, size, 3])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [batch, dim])],
        initializers,
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    quantize(path)
    return path
