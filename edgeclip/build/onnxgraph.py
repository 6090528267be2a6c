"""An ONNX graph as the build sees it: check it, observe its tensors, store its weights as int8."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgeclip.build.observers import LEVELS, SMALLEST
from edgeclip.errors import DataError

Range = tuple[float, float]
DECOMPOSED = {"Pow", "BatchNormalization"}  # what a LayerNorm or a batch norm that was not folded leaves behind


def session(model: Path | bytes, threads: int = 1) -> Any:
    """An ONNX Runtime session."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


class OnnxGraph:
    """An Engine on one thread."""

    def __init__(self, path: Path) -> None:
        self._session = session(path)
        taken = self._session.get_inputs()[0]
        self.input_shape: tuple[int, ...] = tuple(taken.shape)
        self.input_dtype: np.dtype[Any] = np.dtype({"tensor(uint8)": np.uint8, "tensor(int32)": np.int32}[taken.type])
        self.runtime = "ONNX Runtime, 1 thread"
        self._name: str = taken.name

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return np.asarray(self._session.run(None, {self._name: batch})[0], np.float32)

    def close(self) -> None:
        del self._session


def check_native(path: Path, norms: int) -> None:
    """Every LayerNorm is one native node: decomposed ones overflow in FP16. Raises DataError."""
    model = onnx.load(str(path))
    kinds = Counter(node.op_type for node in model.graph.node)
    found = kinds["LayerNormalization"]
    if found != norms or DECOMPOSED & set(kinds):
        raise DataError(
            f"{path.name}: {found} native LayerNormalization nodes for {norms} layers, "
            f"and {sorted(DECOMPOSED & set(kinds)) or 'no decomposed ones'}",
            "export with the torch version pinned in the build extra",
        )


def multiplications(model: onnx.ModelProto, kinds: Iterable[str]) -> list[onnx.NodeProto]:
    """Nodes of `kinds` whose second input is a stored weight (attention's MatMuls are not)."""
    stored = {tensor.name for tensor in model.graph.initializer}
    wanted = set(kinds)
    return [node for node in model.graph.node if node.op_type in wanted and node.input[1] in stored]


def observe(path: Path, kinds: Iterable[str], frames: Iterable[npt.NDArray[Any]]) -> dict[str, Range]:
    """Smallest and largest value of every multiplication's input over `frames` ([1, ...] each)."""
    model = onnx.load(str(path))
    names = sorted({node.input[0] for node in multiplications(model, kinds)})
    known = {output.name for output in model.graph.output}
    for name in names:
        if name not in known:
            model.graph.output.append(helper.make_empty_tensor_value_info(name))
    run = session(model.SerializeToString()).run
    ranges: dict[str, Range] = {}
    for frame in frames:
        for name, value in zip(names, run(names, {"input": frame}), strict=True):
            low, high = ranges.get(name, (np.inf, -np.inf))
            ranges[name] = (min(low, float(value.min())), max(high, float(value.max())))
    return ranges


def write_weights(path: Path) -> bytes:
    """The graph at `path` with every weight and embedding table stored as int8; it computes in float."""
    model = onnx.load(str(path))
    weights: set[str] = set()
    before: dict[str, list[onnx.NodeProto]] = {}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        table = node.op_type == "Gather" and node.input[0] in stored
        if table and len(stored[node.input[0]].dims) == 2 and stored[node.input[0]].data_type == onnx.TensorProto.FLOAT:
            before[node.output[0]] = [stored_weight(model, node, weights)]
    for node in multiplications(model, ("Conv", "Gemm", "MatMul")):
        before[node.output[0]] = [stored_weight(model, node, weights)]
    return finish(model, before, weights)


def stored_weight(model: onnx.ModelProto, node: onnx.NodeProto, replaced: set[str]) -> onnx.NodeProto:
    """Store the node's weight as int8, one scale per output channel; returns the DequantizeLinear to put in front."""
    position = 0 if node.op_type == "Gather" else 1
    name = node.input[position]
    axis = channel_axis(node)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    value = numpy_helper.to_array(tensor).astype(np.float32)
    integers, scale = nearest_integers(value, axis)
    own = f"{node.output[0]}.weight"
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(integers, f"{own}.int8"),
            numpy_helper.from_array(scale, f"{own}.scale"),
            numpy_helper.from_array(np.zeros(scale.shape, np.int8), f"{own}.zero"),
        ]
    )
    replaced.add(name)
    node.input[position] = f"{own}.dequantized"
    facts = [f"{own}.int8", f"{own}.scale", f"{own}.zero"]
    return helper.make_node("DequantizeLinear", facts, [f"{own}.dequantized"], f"{own}.DQ", axis=axis)


def nearest_integers(value: npt.NDArray[np.float32], axis: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """(each weight's nearest integer, the scales): one scale per index of `axis`, by the greatest weight there."""
    others = tuple(i for i in range(value.ndim) if i != axis)
    scale = np.maximum(np.abs(value).max(axis=others), SMALLEST) / LEVELS
    shape = [1] * value.ndim
    shape[axis] = -1
    integers = np.clip(np.rint(value / scale.reshape(shape)), -LEVELS, LEVELS).astype(np.int8)
    return integers, scale.astype(np.float32)


def channel_axis(node: onnx.NodeProto) -> int:
    """The axis of the weight along which outputs (for a table: rows) lie."""
    if node.op_type in ("Conv", "Gather"):
        return 0
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return 0 if transposed else 1
    return 1


def finish(model: onnx.ModelProto, before: dict[str, list[onnx.NodeProto]], replaced: set[str]) -> bytes:
    """Put the new nodes in front of their consumers and drop float weights that nothing reads any more."""
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes += before.get(node.output[0], [])
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [t for t in model.graph.initializer if t.name in used or t.name not in replaced]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
