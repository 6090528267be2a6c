"""TFLite engines on LiteRT (`ai-edge-litert`), the default."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

from edgeclip.runtime.backends.tflite import TFLiteEngine


class LiteRTEngine(TFLiteEngine):
    def __init__(self, path: Path, threads: int) -> None:
        super().__init__(path, threads, Interpreter, f"LiteRT {version('ai-edge-litert')}")
