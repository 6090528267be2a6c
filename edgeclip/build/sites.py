"""Where an image tower's ONNX graph can be INT8: the tensors that multiplications with stored weights read.

A site is one such tensor with every layer that reads it; they share its scale. Which node made the tensor decides what
can be done to it without changing what the network computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[np.float32]
Origin = Literal["norm", "gate", "pixels", "other"]
PREFIXES = ("image.", "model.")


@dataclass(frozen=True)
class Layer:
    """One multiplication. name: the module's, where the exporter kept it. shape: inputs x outputs per position.

    node: the output tensor of its node. bias: the stored tensor that is added, or "".
    biased: the output tensor of what adds it (the node itself for Conv and Gemm).
    """

    name: str
    kind: str
    node: str
    weight: str
    bias: str
    biased: str
    shape: tuple[int, int]


@dataclass(frozen=True)
class Site:
    """source: the tensor's name in the graph. channels: how many it has, along `axis`.

    origin: `norm`, of a LayerNorm that nothing else reads; `gate`, of a GELU behind a layer; `pixels`, of the mean and
    standard deviation in front of a convolution that is not padded; or something else.
    """

    source: str
    layers: tuple[Layer, ...]
    origin: Origin
    channels: int
    axis: int

    @property
    def name(self) -> str:
        return joined([layer.name for layer in self.layers])


def joined(names: Sequence[str]) -> str:
    """Layers that share a tensor, what they share of their names once: `blocks.0.attn.q+k+v`."""
    paths = [name.split(".") for name in names]
    shared = 0
    while all(len(path) > shared + 1 and path[shared] == paths[0][shared] for path in paths):
        shared += 1
    return ".".join([*paths[0][:shared], "+".join(".".join(path[shared:]) for path in paths)])


class Graph:
    """A float ONNX graph taken apart: nodes, stored tensors by name, and who makes and reads what."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.nodes = list(model.graph.node)
        self.ranks = {info.name: len(info.type.tensor_type.shape.dim) for info in model.graph.value_info}
        self.shell = onnx.ModelProto()
        self.shell.CopyFrom(shell_of(model))

    @classmethod
    def load(cls, path: Path) -> Graph:
        return cls(onnx.load(str(path)))

    def copy(self) -> Graph:
        """Nodes of its own; the arrays are shared, so replace and never edit them."""
        other = Graph.__new__(Graph)
        other.arrays, other.shell, other.ranks = dict(self.arrays), self.shell, self.ranks
        other.nodes = [copied(node) for node in self.nodes]
        return other

    @property
    def input(self) -> str:
        return str(self.shell.graph.input[0].name)

    @property
    def output(self) -> str:
        return str(self.shell.graph.output[0].name)

    def maker(self, tensor: str) -> onnx.NodeProto | None:
        return next((node for node in self.nodes if tensor in node.output), None)

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if tensor in node.input]

    def build(self) -> onnx.ModelProto:
        """The model, with only the tensors that are read."""
        model = onnx.ModelProto()
        model.CopyFrom(self.shell)
        model.graph.node.extend(self.nodes)
        read = {name for node in self.nodes for name in node.input}
        model.graph.initializer.extend(
            numpy_helper.from_array(array, name) for name, array in self.arrays.items() if name in read
        )
        return model


def shell_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Everything but nodes and tensors."""
    shell = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    shell.opset_import.extend(model.opset_import)
    shell.graph.name = model.graph.name
    shell.graph.input.extend(model.graph.input)
    shell.graph.output.extend(model.graph.output)
    return shell


def copied(node: onnx.NodeProto) -> onnx.NodeProto:
    other = onnx.NodeProto()
    other.CopyFrom(node)
    return other


def sites_of(graph: Graph, kinds: Iterable[str]) -> list[Site]:
    """In the order in which the graph computes them."""
    wanted = set(kinds)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    makers = {name: node for node in graph.nodes for name in node.output}
    layers: dict[str, list[Layer]] = {}
    for node in graph.nodes:
        if node.op_type in wanted and node.input[1] in graph.arrays:
            layers.setdefault(node.input[0], []).append(layer_of(node, graph, readers))
    sites = []
    for source, found in layers.items():
        origin = origin_of(source, found, graph, makers, readers)
        channels = found[0].shape[0] if found[0].kind != "Conv" else graph.arrays[found[0].weight].shape[1]
        sites.append(Site(source, tuple(found), origin, channels, 1 if found[0].kind == "Conv" else -1))
    return sites


def layer_of(node: onnx.NodeProto, graph: Graph, readers: dict[str, list[onnx.NodeProto]]) -> Layer:
    weight, output = node.input[1], node.output[0]
    bias, biased = "", output
    if node.op_type in ("Conv", "Gemm") and len(node.input) > 2:
        bias = node.input[2]
    after = readers.get(output, [])
    if node.op_type == "MatMul" and len(after) == 1 and after[0].op_type == "Add":
        stored = [name for name in after[0].input if name in graph.arrays and graph.arrays[name].ndim == 1]
        if stored:
            bias, biased = stored[0], after[0].output[0]
    shape = graph.arrays[weight].shape
    if node.op_type == "Conv":
        size = (int(np.prod(shape[1:])), shape[0])
    elif node.op_type == "Gemm" and transposed(node):
        size = (shape[1], shape[0])
    else:
        size = (shape[-2], shape[-1])
    return Layer(named(weight, bias, node.name), node.op_type, output, weight, bias, biased, size)


def named(weight: str, bias: str, node: str) -> str:
    """The module's name: the exporter keeps it in the names of weights and biases that it does not rearrange."""
    for tensor, end in ((weight, ".weight"), (bias, ".bias")):
        if tensor.endswith(end):
            name = tensor.removesuffix(end)
            for prefix in PREFIXES:
                name = name.removeprefix(prefix)
            return name
    return node


def transposed(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def origin_of(
    source: str,
    layers: list[Layer],
    graph: Graph,
    makers: dict[str, onnx.NodeProto],
    readers: dict[str, list[onnx.NodeProto]],
) -> Origin:
    maker = makers.get(source)
    if maker is None or len(readers[source]) != len(layers) or source == graph.output:
        return "other"
    if maker.op_type == "LayerNormalization" and len(maker.input) > 2:
        return "norm"
    if maker.op_type == "Mul" and gate_of(source, graph, makers, readers) is not None:
        return "gate"
    if len(layers) == 1 and layers[0].kind == "Conv" and maker.op_type == "Transpose" and unpadded(readers[source][0]):
        chain = [makers.get(maker.input[0])]
        for kind in ("Add", "Mul"):
            node = chain[-1]
            if node is None or node.op_type != kind or node.input[1] not in graph.arrays:
                return "other"
            chain.append(makers.get(node.input[0]))
        if chain[-1] is not None and chain[-1].op_type == "Cast":
            return "pixels"
    return "other"


def unpadded(node: onnx.NodeProto) -> bool:
    for attribute in node.attribute:
        if attribute.name == "pads" and any(attribute.ints):
            return False
        if attribute.name == "auto_pad" and attribute.s not in (b"NOTSET", b"VALID"):
            return False
        if attribute.name == "group" and attribute.i != 1:
            return False
    return True


def gate_of(
    source: str, graph: Graph, makers: dict[str, onnx.NodeProto], readers: dict[str, list[onnx.NodeProto]]
) -> tuple[str, onnx.NodeProto] | None:
    """(h, inner) where source = h * f(inner) and inner is h times one stored number: QuickGELU, and GELU by erf.

    h is what a layer with a bias puts out, and nothing else reads it.
    """
    end = makers[source]
    for start in end.input:
        others = [node for node in readers.get(start, []) if node is not end]
        if len(others) != 1 or others[0].op_type not in ("Mul", "Div") or others[0].input[0] != start:
            continue
        if number(graph, others[0].input[1]) and leads(others[0], end, graph, readers):
            return (start, others[0]) if behind_layer(start, graph, makers) else None
    return None


def number(graph: Graph, name: str) -> bool:
    return name in graph.arrays and graph.arrays[name].size == 1


def leads(inner: onnx.NodeProto, end: onnx.NodeProto, graph: Graph, readers: dict[str, list[onnx.NodeProto]]) -> bool:
    """Whether inner's result reaches `end` through a sigmoid, or erf and stored numbers, and goes nowhere else."""
    node = inner
    while True:
        after = readers.get(node.output[0], [])
        if len(after) != 1:
            return False
        node = after[0]
        if node is end:
            return True
        stored = any(number(graph, name) for name in node.input)
        if node.op_type not in ("Sigmoid", "Erf") and not (node.op_type in ("Add", "Mul") and stored):
            return False


def behind_layer(tensor: str, graph: Graph, makers: dict[str, onnx.NodeProto]) -> bool:
    """Whether `tensor` is what a product with a stored weight, and a stored bias, put out."""
    maker = makers.get(tensor)
    if maker is None:
        return False
    if maker.op_type == "Gemm":
        return maker.input[1] in graph.arrays
    if maker.op_type != "Add" or not any(name in graph.arrays for name in maker.input):
        return False
    product = next((makers.get(name) for name in maker.input if name not in graph.arrays), None)
    return product is not None and product.op_type == "MatMul" and product.input[1] in graph.arrays


def constant(graph: Graph, name: str, value: npt.NDArray[np.generic]) -> str:
    """Store a tensor under a name that is free; returns that name."""
    while name in graph.arrays:
        name += "_"
    graph.arrays[name] = value
    return name


def insert_after(graph: Graph, tensor: str, kind: str, operand: Array, name: str) -> str:
    """Put `kind`(tensor, operand) in front of everything that reads the tensor; returns the new tensor."""
    made = helper.make_node(kind, [tensor, constant(graph, f"{name}.value", operand)], [name], name)
    position = next(i for i, node in enumerate(graph.nodes) if tensor in node.output) + 1
    for node in graph.nodes:
        for i, read in enumerate(node.input):
            if read == tensor:
                node.input[i] = name
    graph.nodes.insert(position, made)
    return name
