"""A TFLite engine on any interpreter with TensorFlow Lite's Python interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeclip.errors import DataError, EngineError
from edgeclip.runtime.backends.chatter import native_chatter_hidden
from edgeclip.runtime.backends.guard import check_input, check_output
from edgeclip.types import Embeddings

IDENTIFIER = slice(4, 8)  # of a FlatBuffers file
TFLITE = b"TFL3"
DAMAGE = ("Flatbuffer", "out of range offset")  # in the interpreters' messages


class TFLiteEngine:
    """One input, one output, static shapes. Implements types.Engine.

    Raises DataError for a file that is not TFLite or is damaged, EngineError for one that this interpreter cannot run.
    """

    def __init__(self, path: Path, threads: int, interpreter: Any, name: str) -> None:
        model = path.read_bytes()
        if model[IDENTIFIER] != TFLITE:
            raise DataError(f"{path} is not a TFLite file, or it is damaged", "copy or build the bundle again")
        self.runtime = f"{name}, {threads} thread{'s' * (threads > 1)}"
        try:
            with native_chatter_hidden():
                self._interpreter = interpreter(model_content=model, num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            if any(sign in reason for sign in DAMAGE):
                raise DataError(f"{path} is damaged: {reason}", "copy or build the bundle again") from error
            raise EngineError(
                f"it cannot be loaded: {reason}",
                f"{name} lacks what this engine needs: update it, or build the engine for it",
            ) from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise DataError(
                f"{path} has {len(inputs)} inputs and {len(outputs)} outputs, not one of each", "build the bundle again"
            )
        self.input_shape: tuple[int, ...] = tuple(inputs[0]["shape"].tolist())
        self.input_dtype: np.dtype[Any] = np.dtype(inputs[0]["dtype"])
        self._input: int = inputs[0]["index"]
        self._output: int = outputs[0]["index"]
        self._set, self._invoke, self._get = (
            self._interpreter.set_tensor,
            self._interpreter.invoke,
            self._interpreter.get_tensor,
        )

    def run(self, batch: npt.NDArray[Any]) -> Embeddings:
        check_input(batch, self.input_shape, self.input_dtype)
        self._set(self._input, batch)
        self._invoke()
        rows: Embeddings = self._get(self._output)
        check_output(rows, self.runtime)
        return rows

    def close(self) -> None:
        """Releases the interpreter: a later run() fails."""
        del self._set, self._invoke, self._get, self._interpreter
