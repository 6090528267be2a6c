"""An ONNX graph as a torch module, so that it is exported like every other tower.

Only operators of dual encoders, over shapes that are known: graphs go through onnx_rewrite first. Products with stored
weights become Linear and Conv2d, and LayerNormalization a LayerNorm, which every exporter knows for what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper
from torch import Tensor, nn
from torch.nn import functional

from edgeclip.build.checkpoints.onnx_rewrite import Graph
from edgeclip.build.checkpoints.part_names import name_of, named, tree
from edgeclip.errors import DataError

Attributes = dict[str, Any]
Static = npt.NDArray[Any]
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
TYPES = {
    **dict.fromkeys(FLOATS, torch.float32),
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.BOOL: torch.bool,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.INT8: torch.int8,
}


class OnnxTower(nn.Module):
    """[1, ...] of the graph's one input -> its one output. model: simplified, with a fixed input shape."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        self._graph = Graph(model)
        self._input = model.graph.input[0].name
        self._output = model.graph.output[0].name
        self._fused: set[str] = set()
        self._constants: dict[str, str] = {}  # stored tensor -> the buffer that holds it
        self._calls: list[tuple[Callable[..., Any], list[str], list[str]]] = []
        parts: list[tuple[str, nn.Module]] = []
        unknown = sorted({node.op_type for node in model.graph.node} - set(OPERATORS) - set(BUILDERS) - {"Constant"})
        if unknown:
            raise DataError(
                f"the ONNX graph uses {', '.join(unknown)}, which edgeclip does not carry over",
                "export the tower's float graph from the library it was trained with, or give that checkpoint",
            )
        for node in model.graph.node:
            if node.op_type != "Constant" and node.output[0] not in self._fused:
                self._add(node, parts)
        self.model = tree([module for _, module in parts], named([name for name, _ in parts]))
        for number, name in enumerate(sorted(self._taken())):
            value = self._graph.value(name)
            if value is not None:
                if value.dtype in (np.float16, np.float64):
                    value = value.astype(np.float32)
                self.register_buffer(f"constant{number}", torch.from_numpy(np.array(value)))
                self._constants[name] = f"constant{number}"
        del self._graph  # the file's weights, which are held as parameters now

    def forward(self, x: Tensor) -> Tensor:
        values: dict[str, Any] = {name: getattr(self, place) for name, place in self._constants.items()}
        values[self._input] = x
        for call, inputs, outputs in self._calls:
            result = call(*(values[name] if name else None for name in inputs))
            values.update(zip(outputs, result, strict=False) if isinstance(result, tuple) else [(outputs[0], result)])
        embedding: Tensor = values[self._output]
        return embedding

    def _taken(self) -> set[str]:
        return {name for _, inputs, _ in self._calls for name in inputs if name}

    def _add(self, node: onnx.NodeProto, parts: list[tuple[str, nn.Module]]) -> None:
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        if (build := BUILDERS.get(node.op_type)) and (part := build(self._graph, node, attributes)) is not None:
            module, made, fused = part
            parts.append((name_of(node, self._graph.maker[made]), module))
            self._fused.update(fused)
            self._calls.append((module, [node.input[0]], [made]))
            return
        operator, static = OPERATORS[node.op_type]
        inputs = list(node.input)
        facts: list[Static | None] = []
        for place in static:
            name = inputs[place] if place < len(inputs) else ""
            value = self._graph.value(name) if name else None
            if name and value is None:
                raise DataError(
                    f"{node.op_type} {node.name} depends on values that are not fixed", "fix the input shapes"
                )
            facts.append(value)
        dynamic = [name for place, name in enumerate(inputs) if place not in static]
        self._calls.append((bound(operator, attributes, facts), dynamic, list(node.output)))


def bound(operator: Callable[..., Any], attributes: Attributes, facts: list[Static | None]) -> Callable[..., Any]:
    return lambda *inputs: operator(attributes, facts, *inputs)


# -- layers with stored weights ----------------------------------------------------------------------------------------

Part = tuple[nn.Module, str, set[str]]  # the module, the output it makes, outputs of nodes that it stands for as well


def float_of(graph: Graph, name: str) -> Tensor | None:
    value = graph.value(name)
    return None if value is None else torch.from_numpy(np.array(value, np.float32))


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """weight: [out, in]."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.contiguous(), requires_grad=False)
    return layer


def build_matmul(graph: Graph, node: onnx.NodeProto, _: Attributes) -> Part | None:
    weight = float_of(graph, node.input[1])
    if weight is None or weight.ndim != 2:
        return None
    after = graph.only_taker(node.output[0])
    if after is not None and after.op_type == "Add":
        other = next((name for name in after.input if name != node.output[0]), "")
        bias = float_of(graph, other) if other else None
        if bias is not None and bias.numel() == weight.shape[1] == bias.shape[-1]:
            return linear(weight.T, bias.reshape(-1)), after.output[0], {after.output[0]}
    return linear(weight.T, None), node.output[0], set()


def build_gemm(graph: Graph, node: onnx.NodeProto, attributes: Attributes) -> Part | None:
    weight = float_of(graph, node.input[1])
    bias = float_of(graph, node.input[2]) if len(node.input) > 2 and node.input[2] else None
    absent = len(node.input) < 3 or not node.input[2]
    if weight is None or attributes.get("transA", 0) or (bias is None and not absent):
        return None
    weight = weight if attributes.get("transB", 0) else weight.T
    if bias is not None:
        bias = (attributes.get("beta", 1.0) * bias).expand(weight.shape[0]) if bias.ndim < 2 else None
        if bias is None:
            return None
    return linear(attributes.get("alpha", 1.0) * weight, bias), node.output[0], set()


def build_conv(graph: Graph, node: onnx.NodeProto, attributes: Attributes) -> Part | None:
    weight = float_of(graph, node.input[1])
    bias = float_of(graph, node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if weight is None or weight.ndim != 4:
        raise DataError(f"convolution {node.name} is not two-dimensional, with stored weights", "")
    pads = list(attributes.get("pads", (0, 0, 0, 0)))
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise DataError(f"convolution {node.name} pads automatically", "export it with explicit padding")
    even = pads[:2] == pads[2:]
    groups = attributes.get("group", 1)
    layer = nn.Conv2d(
        weight.shape[1] * groups, weight.shape[0], two(weight.shape[2:]), two(attributes.get("strides", (1, 1))),
        two(pads[:2]) if even else 0, two(attributes.get("dilations", (1, 1))), groups, bias is not None,
    )  # fmt: skip
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    if even:
        return layer, node.output[0], set()
    top, left, bottom, right = pads
    return nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), layer), node.output[0], set()


def two(numbers: Sequence[int]) -> tuple[int, int]:
    return int(numbers[0]), int(numbers[1])


def build_layer_norm(graph: Graph, node: onnx.NodeProto, attributes: Attributes) -> Part | None:
    weight, bias = float_of(graph, node.input[1]), float_of(graph, node.input[2]) if len(node.input) > 2 else None
    if weight is None or weight.ndim != 1 or len(node.output) > 1:
        raise DataError(f"LayerNormalization {node.name} is not over the last axis, with stored weights", "")
    layer = nn.LayerNorm(weight.shape[0], attributes.get("epsilon", 1e-5))
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = nn.Parameter(torch.zeros_like(weight) if bias is None else bias, requires_grad=False)
    return layer, node.output[0], set()


BUILDERS: dict[str, Callable[[Graph, onnx.NodeProto, Attributes], Part | None]] = {
    "MatMul": build_matmul,
    "Gemm": build_gemm,
    "Conv": build_conv,
    "LayerNormalization": build_layer_norm,
}


# -- everything else ---------------------------------------------------------------------------------------------------


def ints(attributes: Attributes, name: str, fact: Static | None = None) -> list[int] | None:
    """Axes and the like: an attribute in older opsets, a stored input in newer ones."""
    value = attributes.get(name) if fact is None else fact.reshape(-1)
    return None if value is None else [int(number) for number in value]


def plain(function: Callable[..., Any]) -> tuple[Callable[..., Any], tuple[int, ...]]:
    return lambda attributes, facts, *inputs: function(*inputs), ()


def reduce(function: Callable[..., Any]) -> tuple[Callable[..., Any], tuple[int, ...]]:
    def reduced(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
        axes = ints(a, "axes", f[0]) or list(range(x.ndim))
        result: Tensor = function(x, dim=tuple(axes), keepdim=bool(a.get("keepdims", 1)))
        return result

    return reduced, (1,)


def cast(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
    return x.to(TYPES[a["to"]])


POWERS: dict[float, Callable[[Tensor], Tensor]] = {
    0.5: torch.sqrt,
    -0.5: torch.rsqrt,
    -1.0: torch.reciprocal,
    1.0: lambda x: x,
    2.0: lambda x: x * x,
    3.0: lambda x: x * x * x,
}


def power(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
    """Usual powers by what they are: transformers' norm of an embedding is written with them, and engines know no Pow
    that is fast and right in FP16."""
    exponent = np.asarray(f[0], np.float32)
    known = POWERS.get(float(exponent.reshape(-1)[0])) if exponent.size == 1 else None
    return known(x) if known is not None else torch.pow(x, torch.from_numpy(exponent))


def softmax(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
    return functional.softmax(x, dim=a.get("axis", -1))


def gelu(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=a.get("approximate", b"none").decode())


def clip(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
    low = f[0].item() if f[0] is not None else a.get("min")
    high = f[1].item() if f[1] is not None else a.get("max")
    return x.clamp(low, high)


def transpose(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
    return x.permute(*a.get("perm", range(x.ndim - 1, -1, -1)))


def reshape(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
    shape = ints({}, "", f[0]) or []
    sizes = [x.shape[i] if size == 0 and not a.get("allowzero", 0) else size for i, size in enumerate(shape)]
    return x.reshape(sizes)


def flatten(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
    axis = a.get("axis", 1)
    rows = int(np.prod(x.shape[:axis])) if axis else 1
    return x.reshape(rows, -1)


def squeeze(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
    axes = ints(a, "axes", f[0])
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def unsqueeze(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
    axes = ints(a, "axes", f[0]) or []
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def concat(a: Attributes, f: list[Static | None], *parts: Tensor) -> Tensor:
    return torch.cat(parts, dim=a["axis"])


def split(a: Attributes, f: list[Static | None], x: Tensor) -> tuple[Tensor, ...]:
    sizes = ints(a, "split", f[0])
    axis = a.get("axis", 0)
    if sizes is None:
        return tuple(torch.chunk(x, a["num_outputs"], dim=axis))
    return tuple(torch.split(x, sizes, dim=axis))


def slices(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
    starts, ends = ints(a, "starts", f[0]) or [], ints(a, "ends", f[1]) or []
    axes = ints(a, "axes", f[2]) or list(range(len(starts)))
    steps = ints(a, "steps", f[3]) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index = range(x.shape[axis])[start:end:step]
        if step > 0:
            place = [slice(None)] * x.ndim
            place[axis] = slice(start, min(end, x.shape[axis]), step)
            x = x[tuple(place)]
        else:
            x = x.index_select(axis, torch.tensor(list(index)))
    return x


def gather(a: Attributes, f: list[Static | None], x: Tensor, index: Tensor) -> Tensor:
    axis = a.get("axis", 0) % x.ndim
    if axis == 0 and x.ndim == 2 and index.ndim > 0:
        return functional.embedding(index, x)
    flat = index.reshape(-1)
    taken = x.index_select(axis, torch.where(flat < 0, flat + x.shape[axis], flat))
    return taken.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def gather_nd(a: Attributes, f: list[Static | None], x: Tensor, index: Tensor) -> Tensor:
    if a.get("batch_dims", 0):
        raise DataError("GatherND with batch dimensions is not carried over", "")
    return x[tuple(index[..., i] for i in range(index.shape[-1]))]


def argmax(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
    return x.argmax(dim=a.get("axis", 0), keepdim=bool(a.get("keepdims", 1)))


def expand(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
    shape = ints({}, "", f[0]) or []
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(shape)))


def average_pool(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
    require_even(a)
    return functional.avg_pool2d(
        x, a["kernel_shape"], a.get("strides", [1, 1]), a.get("pads", [0, 0])[:2], bool(a.get("ceil_mode", 0)),
        bool(a.get("count_include_pad", 0)),
    )  # fmt: skip


def max_pool(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
    require_even(a)
    return functional.max_pool2d(
        x, a["kernel_shape"], a.get("strides", [1, 1]), a.get("pads", [0, 0])[:2], a.get("dilations", [1, 1]),
        bool(a.get("ceil_mode", 0)),
    )  # fmt: skip


def require_even(a: Attributes) -> None:
    pads = list(a.get("pads", (0, 0, 0, 0)))
    if pads[:2] != pads[2:] or a.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise DataError("a pooling operator pads unevenly, which is not carried over", "")


def batch_norm(a: Attributes, f: list[Static | None], x: Tensor, *facts: Tensor) -> Tensor:
    gain, shift, mean, variance = facts
    scale = gain * torch.rsqrt(variance + a.get("epsilon", 1e-5))
    shape = (1, -1, *(1,) * (x.ndim - 2))
    return x * scale.reshape(shape) + (shift - mean * scale).reshape(shape)


def gemm(a: Attributes, f: list[Static | None], x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
    product = (x.T if a.get("transA", 0) else x) @ (y.T if a.get("transB", 0) else y)
    product = a.get("alpha", 1.0) * product
    result: Tensor = product if z is None else product + a.get("beta", 1.0) * z
    return result


def divide(x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def unit_rows(a: Attributes, f: list[Static | None], x: Tensor) -> Tensor:
    if a.get("p", 2) != 2:
        raise DataError("LpNormalization other than L2 is not carried over", "")
    return functional.normalize(x, dim=a.get("axis", -1))


def norm2(x: Tensor, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    return torch.sqrt((x * x).sum(dim=dim, keepdim=keepdim))


# name -> (what computes it, which of its inputs must be stored values)
OPERATORS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    **{name: plain(getattr(torch, name.lower())) for name in (
        "Add", "Sub", "Mul", "Sqrt", "Exp", "Log", "Erf", "Sigmoid", "Tanh", "Relu", "Neg", "Abs", "Reciprocal",
        "Where", "IsNaN", "MatMul",
    )},
    "Div": plain(divide), "Pow": (power, (1,)),
    "Min": plain(torch.minimum), "Max": plain(torch.maximum),
    "Equal": plain(torch.eq), "Less": plain(torch.lt), "Greater": plain(torch.gt),
    "LessOrEqual": plain(torch.le), "GreaterOrEqual": plain(torch.ge),
    "Not": plain(torch.logical_not), "And": plain(torch.logical_and), "Or": plain(torch.logical_or),
    "Identity": plain(lambda x: x), "HardSwish": plain(functional.hardswish),
    "GlobalAveragePool": plain(lambda x: x.mean(dim=(2, 3), keepdim=True)),
    "HardSigmoid": (lambda a, f, x: (x * a.get("alpha", 0.2) + a.get("beta", 0.5)).clamp(0, 1), ()),
    "LeakyRelu": (lambda a, f, x: functional.leaky_relu(x, a.get("alpha", 0.01)), ()),
    "Einsum": (lambda a, f, *x: torch.einsum(a["equation"].decode(), *x), ()),
    "Cast": (cast, ()), "Softmax": (softmax, ()), "Gelu": (gelu, ()), "Clip": (clip, (1, 2)), "Gemm": (gemm, ()),
    "Transpose": (transpose, ()), "Reshape": (reshape, (1,)), "Flatten": (flatten, ()),
    "Squeeze": (squeeze, (1,)), "Unsqueeze": (unsqueeze, (1,)), "Concat": (concat, ()), "Split": (split, (1,)),
    "Slice": (slices, (1, 2, 3, 4)), "Gather": (gather, ()), "GatherND": (gather_nd, ()), "ArgMax": (argmax, ()),
    "Expand": (expand, (1,)), "AveragePool": (average_pool, ()), "MaxPool": (max_pool, ()),
    "BatchNormalization": (batch_norm, ()), "LpNormalization": (unit_rows, ()),
    "ReduceMean": reduce(torch.mean), "ReduceSum": reduce(torch.sum), "ReduceMax": reduce(torch.amax),
    "ReduceL2": reduce(norm2),
}  # fmt: skip
