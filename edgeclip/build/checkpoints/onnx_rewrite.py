"""Foreign ONNX graphs made plain: dynamic INT8 back to float, shapes worked out, decomposed LayerNorms made whole."""

from __future__ import annotations

from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgeclip.errors import DataError

SMALL = 1024  # values: shapes and indices are stored in tensors of so many at most
INTEGER = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}


class Graph:
    """A model's nodes by what they make and who takes it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.maker = {output: node for node in model.graph.node for output in node.output}
        self.takers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.takers.setdefault(name, []).append(node)
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}

    def value(self, name: str) -> npt.NDArray[np.generic] | None:
        """A stored tensor, or that of a Constant node."""
        if name in self.stored:
            return numpy_helper.to_array(self.stored[name])
        node = self.maker.get(name)
        if node is not None and node.op_type == "Constant":
            return next((numpy_helper.to_array(item.t) for item in node.attribute if item.name == "value"), None)
        return None

    def only_taker(self, name: str) -> onnx.NodeProto | None:
        takers = self.takers.get(name, [])
        return takers[0] if len(takers) == 1 else None


def read(path: Path, weights: bool = True) -> onnx.ModelProto:
    """weights: those in files beside it, too. Raises DataError for a file that is no ONNX."""
    try:
        model = onnx.load(str(path), load_external_data=weights)
    except Exception as error:  # protobuf's own errors share no other base
        if isinstance(error, (MemoryError, KeyboardInterrupt)):
            raise
        raise DataError(f"{path} is not an ONNX model: {error}", "check the path, or export it again") from error
    try:
        put_in_order(model)
    except CycleError as error:
        raise DataError(f"{path}: its graph goes in a circle", "it is damaged: export it again") from error
    return model


def put_in_order(model: onnx.ModelProto) -> None:
    """Every node behind those that make its inputs, as ONNX wants it. onnxruntime does without, and converters to half
    precision leave it at that. Raises CycleError."""
    nodes = list(model.graph.node)
    makers = {output: number for number, node in enumerate(nodes) for output in node.output}
    needs = {number: {makers[name] for name in node.input if name in makers} for number, node in enumerate(nodes)}
    if all(number > need for number, found in needs.items() for need in found):
        return
    rebuild(model, [nodes[number] for number in TopologicalSorter(needs).static_order()])


def weight_files(path: Path) -> list[Path]:
    """Files beside an ONNX file that hold its weights, as torch writes them (`image.onnx.data`). Raises DataError."""
    stored = read(path, weights=False).graph.initializer
    names = {entry.value for tensor in stored for entry in tensor.external_data if entry.key == "location"}
    return [path.parent / name for name in sorted(names) if (path.parent / name).is_file()]


def widen(model: onnx.ModelProto) -> bool:
    """Half precision becomes float32: weights, constants, casts, inputs and outputs. False where there is none."""
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    attributes = [item for node in model.graph.node for item in node.attribute]
    tensors = [*model.graph.initializer, *(item.t for item in attributes if item.HasField("t"))]
    casts = [item for node in model.graph.node if node.op_type == "Cast" for item in node.attribute if item.i == half]
    typed = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    values = [item.type.tensor_type for item in typed if item.type.tensor_type.elem_type == half]
    wide = [tensor for tensor in tensors if tensor.data_type == half]
    for tensor in wide:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for cast in casts:
        cast.i = single
    for value in values:
        value.elem_type = single
    return bool(wide or casts or values)


def unfold_dynamic(model: onnx.ModelProto) -> int:
    """Products that quantize their input at run time become float products of the stored weights. Returns how many.

    What onnxruntime's quantize_dynamic writes: DynamicQuantizeLinear, MatMulInteger, Cast, and a Mul by both scales.
    """
    graph = Graph(model)
    replaced: dict[str, onnx.NodeProto] = {}  # by the output that a float product now makes
    weights: dict[str, onnx.TensorProto] = {}
    for node in model.graph.node:
        if node.op_type not in INTEGER:
            continue
        quantized = graph.maker.get(node.input[0])
        cast = graph.only_taker(node.output[0])
        scaled = graph.only_taker(cast.output[0]) if cast is not None else None
        integers = graph.value(node.input[1])
        if quantized is None or quantized.op_type != "DynamicQuantizeLinear" or integers is None:
            raise DataError(f"{node.op_type} {node.name} is not what quantize_dynamic writes", "give the float model")
        scales = None
        if scaled is not None and scaled.op_type == "Mul" and cast is not None and cast.op_type == "Cast":
            other = next(name for name in scaled.input if name != cast.output[0])
            both = graph.maker.get(other)
            if both is not None and both.op_type == "Mul" and quantized.output[1] in both.input:
                scales = graph.value(next(name for name in both.input if name != quantized.output[1]))
        if scaled is None or scales is None:
            raise DataError(f"{node.op_type} {node.name} is scaled in a way that is not known", "give the float model")
        zero = graph.value(node.input[3]) if len(node.input) > 3 and node.input[3] else np.zeros((), integers.dtype)
        assert zero is not None
        axes = (-1, *(1,) * (integers.ndim - 1)) if node.op_type == "ConvInteger" else (-1,)
        value = integers.astype(np.float32) - zero.astype(np.float32).reshape(axes if zero.size > 1 else ())
        value = value * scales.astype(np.float32).reshape(axes if scales.size > 1 else ())
        name = f"{node.input[1]}.float"
        weights[name] = numpy_helper.from_array(value.astype(np.float32), name)
        product = helper.make_node(INTEGER[node.op_type], [quantized.input[0], name], [scaled.output[0]], node.name)
        product.attribute.extend(node.attribute)
        replaced[scaled.output[0]] = product
    nodes = [replaced.get(node.output[0], node) for node in model.graph.node]
    rebuild(model, nodes)
    model.graph.initializer.extend(weights.values())
    drop_dead(model)
    return len(replaced)


def simplify(model: onnx.ModelProto, name: str, shape: tuple[int, ...], output: str) -> onnx.ModelProto:
    """The graph from the input `name`, of a fixed shape, to one output, with everything that follows from it folded."""
    taken = next((item for item in model.graph.input if item.name == name), None)
    if taken is None:
        raise DataError(f"the ONNX graph has no input {name!r}", "check the manifest")
    dimensions = taken.type.tensor_type.shape.dim
    if len(dimensions) != len(shape):
        raise DataError(f"the ONNX input {name!r} has {len(dimensions)} dimensions, not {len(shape)}", "")
    for dimension, size in zip(dimensions, shape, strict=True):
        dimension.dim_value = size
    keep = [item for item in model.graph.output if item.name == output]
    del model.graph.output[:]
    model.graph.output.extend(keep)
    del model.graph.value_info[:]
    for item in keep:
        item.type.tensor_type.ClearField("shape")
    drop_dead(model)
    while fold(model):
        pass
    drop_dead(model)
    return model


def fold(model: onnx.ModelProto) -> int:
    """Replace what follows from stored values and known shapes by its value, once. Returns how many nodes it was."""
    inferred = onnx.shape_inference.infer_shapes(without_weights(model), data_prop=True)
    shapes = {
        item.name: [dimension.dim_value for dimension in item.type.tensor_type.shape.dim]
        for item in (*inferred.graph.value_info, *inferred.graph.input)
        if item.type.tensor_type.HasField("shape")
    }
    graph = Graph(model)
    known: dict[str, npt.NDArray[np.generic]] = {}

    def value(name: str) -> npt.NDArray[np.generic] | None:
        return known[name] if name in known else graph.value(name)

    for node in model.graph.node:
        if node.op_type in ("Constant", "DequantizeLinear") or any(item.HasField("g") for item in node.attribute):
            continue
        if node.op_type == "Shape" and not node.attribute:
            shape = shapes.get(node.input[0])
            if shape is not None and all(size > 0 for size in shape):
                known[node.output[0]] = np.array(shape, np.int64)
            continue
        inputs = {name: value(name) for name in node.input if name}
        if not inputs or any(one is None for one in inputs.values()):
            continue
        results = ReferenceEvaluator(node, opsets=versions(model)).run(None, inputs)
        known.update((name, np.asarray(result)) for name, result in zip(node.output, results, strict=True) if name)
    folded = [node for node in model.graph.node if node.output[0] in known]
    rebuild(model, [node for node in model.graph.node if node.output[0] not in known])
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in known.items())
    drop_dead(model)
    return len(folded)


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its large tensors as inputs: inference needs their shapes only, and copies what it is given."""
    small: list[onnx.TensorProto] = []
    inputs = list(model.graph.input)
    for tensor in model.graph.initializer:
        if int(np.prod(tensor.dims)) <= SMALL:
            small.append(tensor)
        else:
            inputs.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    graph = helper.make_graph(list(model.graph.node), "shapes", inputs, list(model.graph.output), small)
    return helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)


def versions(model: onnx.ModelProto) -> dict[str, int]:
    return {item.domain: item.version for item in model.opset_import}


def fuse_layer_norms(model: onnx.ModelProto) -> int:
    """Mean, difference, square, mean, root, quotient, gain and shift: one LayerNormalization. Returns how many."""
    graph = Graph(model)
    fused: dict[str, onnx.NodeProto] = {}
    for difference in model.graph.node:
        if difference.op_type != "Sub":
            continue
        mean = graph.maker.get(difference.input[1])
        if mean is None or mean.op_type != "ReduceMean" or mean.input[0] != difference.input[0]:
            continue
        quotient = next((node for node in graph.takers.get(difference.output[0], []) if node.op_type == "Div"), None)
        epsilon = variance_epsilon(graph, difference, quotient)
        if quotient is None or epsilon is None:
            continue
        gain = graph.only_taker(quotient.output[0])
        shift = graph.only_taker(gain.output[0]) if gain is not None else None
        if gain is None or shift is None or gain.op_type != "Mul" or shift.op_type != "Add":
            continue
        weight = next(name for name in gain.input if name != quotient.output[0])
        bias = next(name for name in shift.input if name != gain.output[0])
        if graph.value(weight) is None or graph.value(bias) is None:
            continue
        fused[shift.output[0]] = helper.make_node(
            "LayerNormalization", [difference.input[0], weight, bias], [shift.output[0]], axis=-1, epsilon=epsilon
        )
    rebuild(model, [fused.get(node.output[0], node) for node in model.graph.node])
    drop_dead(model)
    return len(fused)


def variance_epsilon(graph: Graph, difference: onnx.NodeProto, quotient: onnx.NodeProto | None) -> float | None:
    """What is added to the variance of a LayerNorm, where `quotient` divides the difference by its root."""
    if quotient is None or quotient.input[0] != difference.output[0]:
        return None
    root = graph.maker.get(quotient.input[1])
    added = graph.maker.get(root.input[0]) if root is not None and root.op_type == "Sqrt" else None
    if added is None or added.op_type != "Add":
        return None
    for one, other in (added.input, reversed(added.input)):
        epsilon = graph.value(other)
        variance = graph.maker.get(one)
        if epsilon is None or epsilon.size != 1 or variance is None or variance.op_type != "ReduceMean":
            continue
        square = graph.maker.get(variance.input[0])
        if square is None or square.input[0] != difference.output[0]:
            continue
        if square.op_type == "Pow" or (square.op_type == "Mul" and square.input[1] == difference.output[0]):
            return float(epsilon.reshape(()).astype(np.float64))
    return None


def rebuild(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def drop_dead(model: onnx.ModelProto) -> None:
    """Nodes and stored tensors that no output needs."""
    graph = Graph(model)
    needed = {output.name for output in model.graph.output}
    alive: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            alive.append(node)
            needed.update(node.input)
    tensors = [graph.stored[name] for name in graph.stored if name in needed]
    rebuild(model, alive[::-1])
    copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in tensors]
    del model.graph.initializer[:]
    model.graph.initializer.extend(copies)


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)
