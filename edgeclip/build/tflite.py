"""A TFLite graph as the build sees it: run it, observe its tensors, quantize it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeclip.build.recipe import TFLite
from edgeclip.errors import EngineError
from edgeclip.runtime.backends.chatter import native_chatter_hidden

Range = tuple[float, float]
MULTIPLY = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@dataclass(frozen=True)
class Operator:
    """A convolution or fully-connected operator with a stored weight: the names of its input and output tensors.

    shape: inputs x outputs per position.
    """

    kind: str
    source: str
    output: str
    shape: tuple[int, int]


class TFLiteGraph:
    """An Engine on one thread. keep: on all, and every tensor stays readable after run() (slower; for calibration)."""

    def __init__(self, model: Path | bytes, keep: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self.model = model if isinstance(model, bytes) else model.read_bytes()
        # XNNPACK fuses operators, whose tensors then hold nothing to observe.
        resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if keep else OpResolverType.AUTO
        with native_chatter_hidden():
            self._interpreter = Interpreter(
                model_content=self.model,
                num_threads=len(os.sched_getaffinity(0)) if keep else 1,
                experimental_preserve_all_tensors=keep,
                experimental_op_resolver_type=resolver,
            )
            self._interpreter.allocate_tensors()
        taken = self._interpreter.get_input_details()[0]
        self.input_shape: tuple[int, ...] = tuple(int(n) for n in taken["shape"])
        self.input_dtype: np.dtype[Any] = np.dtype(taken["dtype"])
        self.runtime = "LiteRT, 1 thread"
        self._input: int = taken["index"]
        self._output: int = self._interpreter.get_output_details()[0]["index"]

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        self._interpreter.set_tensor(self._input, batch)
        self._interpreter.invoke()
        return np.asarray(self._interpreter.get_tensor(self._output), np.float32)

    def close(self) -> None:
        del self._interpreter

    def activations(self) -> dict[str, int]:
        """Index of every float tensor that is computed, not stored."""
        stored = set(self._stored())
        return {
            detail["name"]: detail["index"]
            for detail in self._interpreter.get_tensor_details()
            if detail["dtype"] is np.float32 and detail["index"] not in stored and detail["name"]
        }

    def value(self, index: int) -> npt.NDArray[Any]:
        return np.asarray(self._interpreter.get_tensor(index))

    def _stored(self) -> Iterable[int]:
        from ai_edge_litert.tools import flatbuffer_utils

        model = flatbuffer_utils.read_model_from_bytearray(bytearray(self.model))
        for index, tensor in enumerate(model.subgraphs[0].tensors):
            data = model.buffers[tensor.buffer].data
            if data is not None and len(data):
                yield index


def quantize_static(path: Path, recipe: TFLite, ranges: dict[str, Range], floating: Sequence[Operator] = ()) -> bytes:
    """INT8 weights per channel and INT8 activations in the observed ranges, for the recipe's operators only.

    Of the last fully-connected operator the weights alone are INT8: the embedding stays float. floating: operators that
    stay float.
    """
    return _quantize(path, recipe, "static", ranges, floating)


def operators(path: Path) -> list[Operator]:
    """Every multiplication with a stored weight, in the order in which the graph computes them."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))
    graph = model.subgraphs[0]
    kinds = {getattr(schema.BuiltinOperator, kind): kind for kind in MULTIPLY}
    found = []
    for operator in graph.operators:
        kind = kinds.get(model.operatorCodes[operator.opcodeIndex].builtinCode)
        weight = graph.tensors[operator.inputs[1]] if kind else None
        if kind is None or weight is None or model.buffers[weight.buffer].data is None:
            continue
        shape = [int(n) for n in weight.shape]
        outputs = shape[-1] if kind == "DEPTHWISE_CONV_2D" else shape[0]
        size = (int(np.prod(shape)) // outputs, outputs)
        source, output = (graph.tensors[i].name.decode() for i in (operator.inputs[0], operator.outputs[0]))
        found.append(Operator(kind, source, output, size))
    return found


def quantize_dynamic(path: Path, recipe: TFLite) -> bytes:
    """INT8 weights per channel; activations are quantized at run time, to the range each of them has."""
    return _quantize(path, recipe, "dynamic", None)


def head(path: Path) -> str:
    """The output tensor's name of the last fully-connected operator, which makes the embedding."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))
    graph = model.subgraphs[0]
    names = [
        graph.tensors[operator.outputs[0]].name.decode()
        for operator in graph.operators
        if model.operatorCodes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.FULLY_CONNECTED
    ]
    if not names:
        raise EngineError(f"{path.name} has no fully-connected operator: its embedding comes from nowhere")
    return str(names[-1])


def quantize_weights(path: Path) -> bytes:
    """INT8 weights and embedding table, computed with as floats: one byte per parameter, right on every runtime."""
    from ai_edge_quantizer import qtyping, recipe_manager

    manager = recipe_manager.RecipeManager()
    for operator in (qtyping.TFLOperationName.FULLY_CONNECTED, qtyping.TFLOperationName.EMBEDDING_LOOKUP):
        manager.add_weight_only_config(".*", operator, 8)
    return _apply(path, manager, None)


def _quantize(
    path: Path, recipe: TFLite, scheme: str, ranges: dict[str, Range] | None, floating: Sequence[Operator] = ()
) -> bytes:
    from ai_edge_quantizer import qtyping, recipe_manager
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    manager = recipe_manager.RecipeManager()
    for name in recipe.multiply if scheme == "dynamic" else (*recipe.multiply, *recipe.carry):
        kind = qtyping.TFLOperationName(name)
        if scheme == "dynamic":
            manager.add_dynamic_config(".*", kind, 8)
        else:
            manager.add_static_config(".*", kind, 8, 8)
    if scheme == "static":
        # TFLite would make the embedding itself int8, and clip it where a frame exceeds the calibrated range.
        manager.add_weight_only_config(re.escape(head(path)), qtyping.TFLOperationName.FULLY_CONNECTED, 8)
    for operator in floating:
        name = f"^{re.escape(operator.output)}(;|$)"
        manager.add_quantization_config(
            name, qtyping.TFLOperationName(operator.kind), algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    observed = None
    if ranges is not None:
        observed = {
            name: {"min": np.full((1, 1), low, np.float32), "max": np.full((1, 1), high, np.float32)}
            for name, (low, high) in ranges.items()
        }
    return _apply(path, manager, observed)


def _apply(path: Path, manager: Any, observed: dict[str, Any] | None) -> bytes:
    from ai_edge_quantizer import quantizer

    worker = quantizer.Quantizer(str(path), manager.get_quantization_recipe())
    # One of its progress bars has no switch, and it warns of an interpreter that it opens itself.
    with native_chatter_hidden(), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = worker.quantize(observed, enable_progress_bar=False, enable_progress_report=False)
    if result.quantized_model is None:
        raise EngineError(f"the quantizer returned no model for {path.name}")
    return bytes(result.quantized_model)
