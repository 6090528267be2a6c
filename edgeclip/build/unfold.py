"""Undo dynamic INT8 quantization: an ONNX graph with integer multiplications becomes the float graph it stands for.

onnxruntime's `quantize_dynamic` writes x -> DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul(by both scales). The
weights keep int8 precision; activations are float again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgeclip.errors import DataError

FLOAT_KIND = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}
HINT = "only graphs of onnxruntime's quantize_dynamic are undone; give the float ONNX"


def is_dynamic_int8(model: onnx.ModelProto) -> bool:
    """Whether the graph quantizes its activations while it runs."""
    return any(node.op_type in FLOAT_KIND for node in model.graph.node)


def unfold_dynamic_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """A new model with every integer multiplication as a float one; a float model comes back as an equal copy.

    Weights become (integers - zero point) * scale in float32. Raises DataError, naming the node, where an integer
    multiplication does not have quantize_dynamic's form.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    source = {node.output[0]: node for node in graph.node if node.op_type == "DynamicQuantizeLinear"}
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    floats: dict[str, onnx.NodeProto] = {}  # by the output of the Mul that ends each pattern
    for node in graph.node:
        if node.op_type not in FLOAT_KIND:
            continue
        if node.input[0] not in source or node.input[1] not in stored:
            raise DataError(f"{node.op_type} {node.name}: its input or its weight is made some other way", HINT)
        rescale = only_reader(only_reader(node, "Cast", readers), "Mul", readers)
        weight = float_weight(node, weight_scale(rescale, source[node.input[0]], makers, stored), stored)
        name = f"{node.input[1]}.float"
        graph.initializer.append(numpy_helper.from_array(weight, name))
        made = helper.make_node(
            FLOAT_KIND[node.op_type], [source[node.input[0]].input[0], name], [rescale.output[0]], node.name
        )
        made.attribute.extend(node.attribute)
        floats[rescale.output[0]] = made
    before = {name for node in graph.node for name in node.input}
    nodes = [floats.get(node.output[0], node) for node in graph.node]
    del graph.node[:]
    graph.node.extend(reachable(nodes, {output.name for output in graph.output}))
    read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read or tensor.name not in before]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return result


def only_reader(node: onnx.NodeProto, kind: str, readers: dict[str, list[onnx.NodeProto]]) -> onnx.NodeProto:
    found = readers.get(node.output[0], [])
    if len(found) != 1 or found[0].op_type != kind:
        raise DataError(f"{node.op_type} {node.name} is not followed by one {kind}", HINT)
    return found[0]


def weight_scale(
    rescale: onnx.NodeProto,
    quantizer: onnx.NodeProto,
    makers: dict[str, onnx.NodeProto],
    stored: dict[str, onnx.TensorProto],
) -> npt.NDArray[np.float32]:
    """The stored factor of `rescale`, which multiplies by (activation scale * weight scale)."""
    for name in rescale.input:
        both = makers.get(name)
        if both is None or both.op_type != "Mul" or quantizer.output[1] not in both.input:
            continue
        for factor in both.input:
            if factor in stored:
                return numpy_helper.to_array(stored[factor]).astype(np.float32)
    raise DataError(f"{rescale.name}: no stored weight scale beside the activation's", HINT)


def float_weight(
    node: onnx.NodeProto, scale: npt.NDArray[np.float32], stored: dict[str, onnx.TensorProto]
) -> npt.NDArray[np.float32]:
    integers = numpy_helper.to_array(stored[node.input[1]]).astype(np.float32)
    zero = np.zeros((), np.float32)
    if len(node.input) > 3 and node.input[3]:
        if node.input[3] not in stored:
            raise DataError(f"{node.op_type} {node.name}: its weight's zero point is not stored", HINT)
        zero = numpy_helper.to_array(stored[node.input[3]]).astype(np.float32)
    if node.op_type == "ConvInteger":  # output channels lie along the first axis there, along the last in a MatMul
        scale, zero = (x.reshape(-1, *[1] * (integers.ndim - 1)) if x.size > 1 else x for x in (scale, zero))
    return np.asarray((integers - zero) * scale, np.float32)


def reachable(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """The nodes that `wanted` tensors come from, in their order."""
    return list(reversed(list(_backwards(nodes, set(wanted)))))


def _backwards(nodes: list[onnx.NodeProto], wanted: set[str]) -> Iterator[onnx.NodeProto]:
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            yield node
