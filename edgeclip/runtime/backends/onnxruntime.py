"""ONNX engines on ONNX Runtime's CPU provider: the portable one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from edgeclip.errors import DataError, EngineError
from edgeclip.runtime.backends.guard import check_input, check_output
from edgeclip.types import Embeddings

ERRORS_ONLY = 3
NO_GRAPH = ("No graph was found", "does not have a graph")  # what an empty file is to it; up to 1.23, the second
LOAD_ERRORS = (native.InvalidProtobuf, native.Fail, native.InvalidGraph, native.NotImplemented, native.InvalidArgument)
DTYPES: dict[str, np.dtype[Any]] = {"tensor(uint8)": np.dtype(np.uint8), "tensor(int32)": np.dtype(np.int32)}


class OnnxRuntimeEngine:
    """One input, one output, static shapes. Implements types.Engine.

    Raises DataError for a file that is not ONNX, EngineError for one that this version cannot run.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self.runtime = f"ONNX Runtime {onnxruntime.__version__}, {threads} thread{'s' * (threads > 1)}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # decoding needs those cores
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except LOAD_ERRORS as error:
            reason = " ".join(str(error).split())
            if isinstance(error, native.InvalidProtobuf) or any(said in reason for said in NO_GRAPH):
                raise DataError(
                    f"{path} is not ONNX, or is damaged: {reason}", "copy or build the bundle again"
                ) from error
            raise EngineError(
                f"it cannot be loaded: {reason}",
                "update onnxruntime (pip install -U onnxruntime), or build the bundle again",
            ) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type not in DTYPES:
            raise DataError(
                f"{path} has inputs {[i.type for i in inputs]} and {len(outputs)} outputs, "
                "not one uint8 or int32 input and one output",
                "build the bundle again",
            )
        shape = inputs[0].shape
        if not all(isinstance(size, int) for size in shape):
            raise DataError(f"{path} takes shape {shape}, which is not fixed", "export it with static shapes")
        self.input_shape: tuple[int, ...] = tuple(shape)
        self.input_dtype: np.dtype[Any] = DTYPES[inputs[0].type]
        self._input = inputs[0].name
        self._outputs = [outputs[0].name]
        self._infer = self._session.run

    def run(self, batch: npt.NDArray[Any]) -> Embeddings:
        check_input(batch, self.input_shape, self.input_dtype)
        rows: Embeddings = self._infer(self._outputs, {self._input: batch})[0]
        check_output(rows, self.runtime)
        return rows

    def close(self) -> None:
        """Releases the session: a later run() fails."""
        del self._infer, self._session
