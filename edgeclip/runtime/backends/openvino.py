"""ONNX engines on OpenVINO, for x86-64: it runs Q/DQ graphs in INT8 where ONNX Runtime does not.

Where activations are INT8, what the graph leaves float is computed in bfloat16 if the processor has it: OpenVINO's
default, and part of what verify measures. Float graphs are computed in float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeclip.errors import DataError, EngineError
from edgeclip.runtime.backends.chatter import native_chatter_hidden
from edgeclip.runtime.backends.guard import check_input, check_output
from edgeclip.runtime.backends.openvino_library import openvino
from edgeclip.runtime.backends.signal_stack import signal_stack_kept
from edgeclip.types import Embeddings

QUANTIZED = "FakeQuantize"  # what a pair of QuantizeLinear and DequantizeLinear is to it
UNSUPPORTED = "not support"  # in its words for an operator that it lacks
DTYPES: dict[str, np.dtype[Any]] = {"u8": np.dtype(np.uint8), "i32": np.dtype(np.int32)}


class OpenVinoEngine:
    """One input, one output, static shapes. Implements types.Engine.

    Raises DataError for a file that is not ONNX, EngineError for one that this version cannot run.
    """

    def __init__(self, path: Path, threads: int) -> None:
        version = openvino.__version__.partition("-")[0]
        self.runtime = f"OpenVINO {version}, {threads} thread{'s' * (threads > 1)}"
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        try:
            with native_chatter_hidden():
                model = openvino.Core().read_model(path)
        except RuntimeError as error:
            if UNSUPPORTED in str(error):
                raise _unusable(error) from error
            raise DataError(
                f"{path} is not ONNX, or is damaged: {_reason(error)}", "copy or build the bundle again"
            ) from error
        if len(model.inputs) != 1 or len(model.outputs) != 1 or model.is_dynamic():
            raise DataError(
                f"{path} has {len(model.inputs)} inputs and {len(model.outputs)} outputs, not one of each, or no fixed "
                "shape",
                "build the bundle again",
            )
        kind = model.input(0).get_element_type().get_type_name()
        if kind not in DTYPES:
            raise DataError(f"{path} takes {kind}, not uint8 or int32", "build the bundle again")
        self.input_shape: tuple[int, ...] = tuple(int(side) for side in model.input(0).get_shape())
        self.input_dtype: np.dtype[Any] = DTYPES[kind]
        if not any(node.get_type_name() == QUANTIZED for node in model.get_ops()):
            options["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            with native_chatter_hidden(), signal_stack_kept():
                self._request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise _unusable(error) from error
        self._infer = self._request.infer

    def run(self, batch: npt.NDArray[Any]) -> Embeddings:
        check_input(batch, self.input_shape, self.input_dtype)
        rows: Embeddings = self._infer({0: batch}, share_inputs=True)[0]
        check_output(rows, self.runtime)
        return rows

    def close(self) -> None:
        """Releases the request: a later run() fails."""
        del self._infer, self._request


def _unusable(error: RuntimeError) -> EngineError:
    return EngineError(
        f"it cannot be loaded: {_reason(error)}",
        "update openvino (pip install -U openvino), or build the bundle again",
    )


def _reason(error: RuntimeError) -> str:
    """The last of its lines: those before say where in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
