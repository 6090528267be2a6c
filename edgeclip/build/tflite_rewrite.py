"""A TFLite graph with other numbers in it: what a fully-connected operator reads is scaled and shifted, channel by
channel, its weights and bias undo it, and rounded weights are put into a quantized graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Feed:
    """Operators that read x * gain + offset in place of x: [channels] each, with their new weights and biases.

    outputs: the operators' output tensors. weights: [outputs, channels] each; biases: [outputs] each.
    """

    outputs: tuple[str, ...]
    gain: Floats
    offset: Floats
    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]


class Rewriting:
    """A model taken apart; `bytes()` puts it together again."""

    def __init__(self, model: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema
        from ai_edge_litert.tools import flatbuffer_utils

        self._schema = schema
        self._model = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
        self._graph = self._model.subgraphs[0]
        self._makers = {
            self._graph.tensors[i].name.decode(): operator
            for operator in self._graph.operators
            for i in operator.outputs
        }

    def bytes(self) -> bytes:
        from ai_edge_litert.tools import flatbuffer_utils

        return bytes(flatbuffer_utils.convert_object_to_bytearray(self._model))

    def weight(self, output: str) -> Any:
        """The stored weight of a fully-connected operator, [outputs, channels]."""
        tensor = self._graph.tensors[self._makers[output].inputs[1]]
        data = np.asarray(self._model.buffers[tensor.buffer].data, np.uint8).tobytes()
        kinds = {self._schema.TensorType.FLOAT32: np.float32, self._schema.TensorType.INT8: np.int8}
        return np.frombuffer(data, kinds[tensor.type]).reshape(tuple(tensor.shape))

    def bias(self, output: str) -> Floats:
        """[outputs]; zeros where it has none."""
        operator = self._makers[output]
        outputs = int(self._graph.tensors[operator.inputs[1]].shape[0])
        if len(operator.inputs) < 3 or operator.inputs[2] < 0:
            return np.zeros(outputs, np.float32)
        data = self._model.buffers[self._graph.tensors[operator.inputs[2]].buffer].data
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), np.float32)

    def feed(self, feed: Feed) -> None:
        readers = [self._makers[output] for output in feed.outputs]
        source = readers[0].inputs[0]
        made = source
        for kind, value, neutral in (("MUL", feed.gain, 1.0), ("ADD", feed.offset, 0.0)):
            if np.any(value != neutral):
                made = self._insert(kind, made, value, readers)
        for output, weight, bias in zip(feed.outputs, feed.weights, feed.biases, strict=True):
            operator = self._makers[output]
            buffer = self._graph.tensors[operator.inputs[1]].buffer
            self._model.buffers[buffer].data = np.frombuffer(np.ascontiguousarray(weight).tobytes(), np.uint8)
            operator.inputs = [made, operator.inputs[1], self._stored(bias, f"{output}/bias")]

    def round(self, output: str, integers: npt.NDArray[np.int8], scales: Floats) -> None:
        """Other int8 weights [outputs, channels] with scales [outputs] for an operator that is quantized already."""
        tensor = self._graph.tensors[self._makers[output].inputs[1]]
        if tensor.type != self._schema.TensorType.INT8 or tuple(tensor.shape) != integers.shape:
            raise ValueError(f"{output} has no int8 weights of shape {integers.shape}")
        self._model.buffers[tensor.buffer].data = np.frombuffer(integers.tobytes(), np.uint8)
        tensor.quantization.scale = scales.astype(np.float32)

    def _insert(self, kind: str, source: int, value: Floats, readers: Sequence[Any]) -> int:
        """Put `kind`(source, value) in front of the first of `readers`; returns the new tensor."""
        before = self._graph.tensors[source]
        name = before.name.decode()
        made = self._schema.TensorT()
        made.type, made.shape, made.shapeSignature = before.type, list(before.shape), before.shapeSignature
        made.name = f"{name}/{kind.lower()}".encode()
        made.buffer = 0
        self._graph.tensors.append(made)
        index = len(self._graph.tensors) - 1
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._opcode(kind)
        operator.inputs = [source, self._stored(value, f"{name}/{kind.lower()}-by")]
        operator.outputs = [index]
        options = {"MUL": "MulOptions", "ADD": "AddOptions"}[kind]
        operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, options)
        operator.builtinOptions = getattr(self._schema, f"{options}T")()
        position = next(i for i, other in enumerate(self._graph.operators) if any(other is r for r in readers))
        self._graph.operators.insert(position, operator)
        return index

    def _stored(self, value: Floats, name: str) -> int:
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(value, np.float32).tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        tensor = self._schema.TensorT()
        tensor.type, tensor.shape, tensor.name = self._schema.TensorType.FLOAT32, list(value.shape), name.encode()
        tensor.buffer = len(self._model.buffers) - 1
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _opcode(self, kind: str) -> int:
        code = getattr(self._schema.BuiltinOperator, kind)
        for i, known in enumerate(self._model.operatorCodes):
            if known.builtinCode == code:
                return i
        known = self._schema.OperatorCodeT()
        known.builtinCode = code
        known.deprecatedBuiltinCode = min(code, 127)
        known.version = 1
        self._model.operatorCodes.append(known)
        return len(self._model.operatorCodes) - 1


def with_feeds(model: bytes, feeds: Sequence[Feed]) -> bytes:
    rewriting = Rewriting(model)
    for feed in feeds:
        rewriting.feed(feed)
    return rewriting.bytes()


def with_weights(model: bytes, rounded: Mapping[str, tuple[npt.NDArray[np.int8], Floats]]) -> bytes:
    rewriting = Rewriting(model)
    for output, (integers, scales) in rounded.items():
        rewriting.round(output, integers, scales)
    return rewriting.bytes()
