"""Smoothing carried over to a TFLite graph: channels behind a QuickGELU are divided, and the layers around it undo it.

The factors are those that the search found for the ONNX graph (rewrite.py does the same there). What LayerNorm makes is
left alone: the converter has folded its gain into the next layer. So is a GELU that became one operator of its own.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeclip.build.tflite import Operator

Factors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Gate:
    """A QuickGELU between two fully-connected operators, and the factors [channels] to divide it by."""

    before: Operator
    behind: Operator
    scale: Factors


def divide_gates(model: bytes, gates: list[Gate]) -> tuple[bytes, list[str]]:
    """(the model with every gate's channels divided, why for those where they could not be)."""
    from ai_edge_litert.tools import flatbuffer_utils

    graph = _Graph(flatbuffer_utils.read_model_from_bytearray(bytearray(model)))
    left = []
    for gate in gates:
        why = graph.divide(gate)
        if why:
            left.append(f"{gate.behind.output}: {why}")
    return bytes(flatbuffer_utils.convert_object_to_bytearray(graph.model)), left


class _Graph:
    """A TFLite model opened for editing. Stored tensors are replaced by new ones: several operators may share one."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._graph = model.subgraphs[0]
        self._makers = {index: operator for operator in self._graph.operators for index in operator.outputs}
        self._names = {tensor.name.decode(): i for i, tensor in enumerate(self._graph.tensors) if i in self._makers}
        self._readers: dict[int, list[Any]] = {}
        for operator in self._graph.operators:
            for index in operator.inputs:
                self._readers.setdefault(index, []).append(operator)

    def divide(self, gate: Gate) -> str:
        before, behind = (self._makers.get(self._names.get(o.output, -1)) for o in (gate.before, gate.behind))
        if before is None or behind is None:
            return "no such operators in the graph"
        hidden = before.outputs[0]
        inner = [op for op in self._readers.get(hidden, []) if self._stored(op.inputs[1]) is not None]
        if len(self._readers.get(hidden, [])) != 2 or len(inner) != 1 or not self._gated(hidden, inner[0], behind):
            return "not a QuickGELU of separate operators"
        factor = self._stored(inner[0].inputs[1])
        assert factor is not None
        self._replace(before, 1, lambda weight: weight / gate.scale[:, None])
        if len(before.inputs) > 2 and before.inputs[2] >= 0:
            self._replace(before, 2, lambda bias: bias / gate.scale)
        self._replace(inner[0], 1, lambda value: value.reshape(-1) * gate.scale)
        self._replace(behind, 1, lambda weight: weight * gate.scale[None, :])
        return ""

    def _gated(self, hidden: int, inner: Any, behind: Any) -> bool:
        """Whether `behind` reads hidden * sigmoid(inner), and inner is hidden times one number."""
        outer = self._makers.get(behind.inputs[0])
        number = self._stored(inner.inputs[1])
        if outer is None or number is None or number.size != 1 or len(self._readers.get(outer.outputs[0], [])) != 1:
            return False
        if {self._kind(inner), self._kind(outer)} != {"MUL"} or hidden not in outer.inputs:
            return False
        maker = self._makers.get(next(index for index in outer.inputs if index != hidden))
        while maker is not None and self._kind(maker) == "RESHAPE":
            maker = self._makers.get(maker.inputs[0])
        return maker is not None and self._kind(maker) == "LOGISTIC" and maker.inputs[0] == inner.outputs[0]

    def _kind(self, operator: Any) -> str:
        from ai_edge_litert import schema_py_generated as schema

        code = self.model.operatorCodes[operator.opcodeIndex].builtinCode
        return next((name for name, value in vars(schema.BuiltinOperator).items() if value == code), "")

    def _stored(self, index: int) -> Factors | None:
        tensor = self._graph.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        if data is None or len(data) == 0:
            return None
        shape = [] if tensor.shape is None else [int(n) for n in tensor.shape]
        return np.frombuffer(bytes(data), np.float32).reshape(shape)

    def _replace(self, operator: Any, position: int, change: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        old = operator.inputs[position]
        stored = self._stored(old)
        assert stored is not None
        value = np.ascontiguousarray(change(stored), np.float32)
        buffer = schema.BufferT()
        buffer.data = value.reshape(-1).view(np.uint8)
        self.model.buffers.append(buffer)
        tensor = self._graph.tensors[old]
        if len(self._readers[old]) > 1:
            tensor = copy.copy(tensor)
            tensor.name = tensor.name + f".divided{len(self._graph.tensors)}".encode()
            self._graph.tensors.append(tensor)
            operator.inputs[position] = len(self._graph.tensors) - 1
        before = tensor.buffer
        tensor.buffer, tensor.shape = len(self.model.buffers) - 1, list(value.shape)
        if all(other.buffer != before for other in self._graph.tensors):
            self.model.buffers[before].data = None  # or the file would carry it on
