"""What a Coral Edge TPU would leave to the CPU: the operators of a TFLite file that its compiler does not map, by name.

Rules are those of the table at https://coral.ai/docs/edgetpu/models-intro/#supported-operations (runtime 14): tensors
are INT8 or UINT8 with sizes that are fixed, at most the three innermost dimensions are larger than 1, and operators are
of the table, within its limits. The compiler itself is the last word: it may also leave out what is too large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgeclip.bundle import Bundle
from edgeclip.errors import DataError, EngineError

TABLE = {
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "EXPAND_DIMS", "FULLY_CONNECTED",
    "L2_NORMALIZATION", "LOGISTIC", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MUL", "PACK", "PAD", "PRELU",
    "QUANTIZE", "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6", "RELU_N1_TO_1", "RESHAPE", "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR", "RSQRT", "SLICE", "SOFTMAX", "SPACE_TO_DEPTH", "SPLIT", "SQUARED_DIFFERENCE",
    "SQUEEZE", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE", "TRANSPOSE_CONV",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
}  # fmt: skip
NO_ACTIVATION = ("AVERAGE_POOL_2D", "CONCATENATION", "MAX_POOL_2D")
REDUCTIONS = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
LARGEST_SOFTMAX = 16_000
INNERMOST = 3


class Operator(msgspec.Struct, frozen=True):
    """One operator in the way. tensor: the name of what it computes."""

    index: int
    operator: str
    tensor: str
    reason: str


class Findings(msgspec.Struct, frozen=True):
    """operators: how many the file has. in_the_way: those that the Edge TPU lacks between the first and the last that
    it has, which break its part to pieces. ends: those before and behind, which the CPU computes whatever is done.

    mapped_share: of the multiplications, those that the Edge TPU could take.
    """

    file: str
    operators: int
    in_the_way: tuple[Operator, ...]
    ends: tuple[Operator, ...]
    mapped_share: float

    @property
    def compatible(self) -> bool:
        """Whether all that it can take is one piece, and there is any."""
        return not self.in_the_way and self.mapped_share > 0

    def lines(self) -> list[str]:
        """For people: the figures, then every operator that stays on the CPU."""
        verdict = "one piece for the Edge TPU" if self.compatible else "not for the Edge TPU"
        head = (
            f"{self.file}: {verdict}, with {100 * self.mapped_share:.2f} % of the multiplications; of {self.operators} "
            f"operators {len(self.in_the_way)} are in the way, and {len(self.ends)} before or behind stay on the CPU"
        )
        told = [("in the way", self.in_the_way), ("before or behind", self.ends)]
        return [
            head,
            *(
                f"  {where}: {at.index} {at.operator} {short(at.tensor)}: {at.reason}"
                for where, found in told
                for at in found
            ),
        ]


def short(tensor: str) -> str:
    """A tensor's name without the modules' packages and what was fused into it: converters write very long ones."""
    return "/".join(part.rpartition(".")[2] for part in tensor.split(";;")[-1].split("/"))


def examine(path: Path) -> Findings:
    """Every operator of a TFLite file. Raises DataError where it is none, EngineError without ai-edge-litert."""
    model = _read(path)
    graph = model.subgraphs[0]
    lacking: list[Operator] = []
    having: list[int] = []
    total = mapped = 0
    for index, node in enumerate(graph.operators):
        reason = _reason(model, node)
        count = _multiplications(model, node)
        total += count
        if reason:
            name = graph.tensors[node.outputs[0]].name.decode(errors="replace")
            lacking.append(Operator(index, _kind(model, node), name, reason))
        else:
            having.append(index)
            mapped += count
    if len(model.subgraphs) > 1:
        lacking.append(Operator(len(graph.operators), "subgraph", "", "more than one subgraph"))
        having.append(len(graph.operators) + 1)  # wherever it is called, it is in the way
    first, last = (having[0], having[-1]) if having else (-1, len(graph.operators))
    return Findings(
        path.name,
        len(graph.operators),
        tuple(one for one in lacking if first < one.index < last),
        tuple(one for one in lacking if not first < one.index < last),
        mapped / total if total else 0.0,
    )


def examine_bundle(bundle: Bundle) -> Findings:
    """The bundle's image engine in TFLite. Raises DataError where it has none."""
    for entry in bundle.engines("image"):
        if entry.format == "tflite":
            return examine(bundle.file(entry.file))
    raise DataError(f"bundle {bundle.origin} has no TFLite image engine", "build it with --target tflite")


def require_compatible(findings: Findings) -> None:
    """Raises DataError naming each operator that stays on the CPU, and its tensor."""
    if not findings.compatible:
        raise DataError(
            "\n".join(findings.lines()),
            "it takes convolutions and ReLU, all of them static INT8: edgeclip build ... --edgetpu-compatible",
        )


def _read(path: Path) -> Any:
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise DataError(f"{path} is not a TFLite file, or it is damaged", "copy or build the bundle again")
    schema = _schema()
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        for buffer in model.buffers:
            if buffer.offset > 1:  # large files keep their weights behind the flatbuffer
                buffer.data = data[buffer.offset : buffer.offset + buffer.size]
        return model
    except Exception as error:  # flatbuffers has no exception of its own: struct.error, IndexError, TypeError
        raise DataError(f"{path} is damaged: {error}", "copy or build the bundle again") from error


def _schema() -> Any:
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise EngineError(
            f"reading TFLite operators needs ai-edge-litert: {error}", "pip install ai-edge-litert"
        ) from error
    return schema_py_generated


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}


def _kind(model: Any, node: Any) -> str:
    code = model.operatorCodes[node.opcodeIndex]
    if code.customCode:
        return str(code.customCode.decode(errors="replace"))
    return _names(_schema().BuiltinOperator)[max(code.builtinCode, code.deprecatedBuiltinCode)]


def _shape(tensor: Any) -> list[int]:
    return [] if tensor.shape is None else [int(side) for side in tensor.shape]


def _constant(model: Any, tensor: Any) -> bytes | None:
    """The stored value, or None where it is computed."""
    data = model.buffers[tensor.buffer].data
    return None if data is None or len(data) == 0 else bytes(bytearray(data))


def _reason(model: Any, node: Any) -> str:
    """Why an operator is not mapped; "" where it is."""
    schema, tensors = _schema(), model.subgraphs[0].tensors
    kind = _kind(model, node)
    if kind not in TABLE:
        return "the Edge TPU has no such operator"
    types = _names(schema.TensorType)
    taken = [tensors[index] for index in node.inputs if index >= 0]
    made = [tensors[index] for index in node.outputs]
    stored = [_constant(model, tensor) is not None for tensor in taken]
    for tensor, fixed in [*zip(taken, stored, strict=True), *((tensor, False) for tensor in made)]:
        name = types[tensor.type]
        if name in ("INT8", "UINT8") or (fixed and name in ("INT32", "INT64")):
            continue
        return f"{'stores' if fixed else 'computes with'} {name}, not INT8"
    for tensor in (*taken, *made):
        signature = () if tensor.shapeSignature is None else tensor.shapeSignature
        if any(int(side) < 0 for side in signature):
            return f"its size {[int(side) for side in signature]} is not fixed"
    for tensor in made:
        shape = _shape(tensor)
        if any(side > 1 for side in shape[:-INNERMOST]):
            return f"{shape} is larger than 1 beyond the {INNERMOST} innermost dimensions"
    limit = LIMITS.get(kind)
    if limit is not None and (reason := limit(model, node, taken, made)):
        return reason
    activation = getattr(node.builtinOptions, "fusedActivationFunction", 0)
    if kind in NO_ACTIVATION and activation:
        return "has a fused activation"
    return ""


def _fully_connected(model: Any, node: Any, taken: Sequence[Any], made: Sequence[Any]) -> str:
    if _constant(model, taken[1]) is None:
        return "its weights are computed, not stored"
    shape = _shape(made[0])
    return f"its output {shape} is not one-dimensional" if math.prod(shape[:-1]) > 1 else ""


def _convolution(model: Any, node: Any, taken: Sequence[Any], made: Sequence[Any]) -> str:
    if _constant(model, taken[1]) is None:
        return "its weights are computed, not stored"
    options = node.builtinOptions
    across, down = options.dilationWFactor, options.dilationHFactor
    return "" if across == down else f"dilated by {across} x {down}, and both must be the same"


def _softmax(model: Any, node: Any, taken: Sequence[Any], made: Sequence[Any]) -> str:
    shape = _shape(taken[0])
    if math.prod(shape[:-1]) > 1:
        return f"its input {shape} is not one-dimensional"
    return f"more than {LARGEST_SOFTMAX} elements" if shape[-1] > LARGEST_SOFTMAX else ""


def _concatenation(model: Any, node: Any, taken: Sequence[Any], made: Sequence[Any]) -> str:
    values = [_constant(model, tensor) for tensor in taken]
    if any(values) and (len(taken) != 2 or any(value is not None and any(value) for value in values)):
        return "joins a stored tensor that is not zeros beside one other"
    return ""


def _reduction(model: Any, node: Any, taken: Sequence[Any], made: Sequence[Any]) -> str:
    import numpy as np

    value, rank = _constant(model, taken[1]), len(_shape(taken[0]))
    if value is None:
        return "its axes are computed, not stored"
    axes = {int(axis) % rank for axis in np.frombuffer(value, np.int32)}
    return "reduces the batch" if 0 in axes and rank > 1 else ""


def _strided_slice(model: Any, node: Any, taken: Sequence[Any], made: Sequence[Any]) -> str:
    import numpy as np

    value = _constant(model, taken[3])
    strides = [] if value is None else np.frombuffer(value, np.int32).tolist()
    return "" if strides and set(strides) == {1} else "its strides are not all 1"


LIMITS: dict[str, Callable[[Any, Any, Sequence[Any], Sequence[Any]], str]] = {
    "FULLY_CONNECTED": _fully_connected,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "SOFTMAX": _softmax,
    "CONCATENATION": _concatenation,
    "STRIDED_SLICE": _strided_slice,
    **dict.fromkeys(REDUCTIONS, _reduction),
}


def _multiplications(model: Any, node: Any) -> int:
    """Of one frame, in products with stored weights."""
    kind = _kind(model, node)
    if kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return 0
    tensors = model.subgraphs[0].tensors
    made, weight = _shape(tensors[node.outputs[0]]), _shape(tensors[node.inputs[1]])
    summed = math.prod(weight[:-1]) if kind == "DEPTHWISE_CONV_2D" else math.prod(weight[1:])
    return math.prod(made) * summed
