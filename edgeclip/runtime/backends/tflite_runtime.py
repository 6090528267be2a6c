"""TFLite engines on `tflite-runtime`, where that is what the board has: Python up to 3.11, NumPy 1."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
from tflite_runtime.interpreter import Interpreter

from edgeclip.errors import EngineError
from edgeclip.runtime.backends.tflite import TFLiteEngine


class TFLiteRuntimeEngine(TFLiteEngine):
    def __init__(self, path: Path, threads: int) -> None:
        if int(np.__version__.partition(".")[0]) >= 2:  # it would import, and fail in the first Interpreter()
            raise EngineError(f"tflite-runtime needs NumPy 1, this is {np.__version__}", "pip install 'numpy<2'")
        super().__init__(path, threads, Interpreter, f"tflite-runtime {version('tflite-runtime')}")
