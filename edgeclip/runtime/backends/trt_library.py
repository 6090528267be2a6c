"""NVIDIA's two TensorRTs as Python modules: found, imported, their versions and their log. One interface for both."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edgeclip.errors import EngineError, UsageError

TENSORRT, RTX = "tensorrt", "tensorrt-rtx"
MODULES = {TENSORRT: ("tensorrt",), RTX: ("tensorrt_rtx", "tensorrt_rtx_bindings")}
INSTALL = {
    TENSORRT: (
        "on Jetson use JetPack's own (sudo apt install python3-libnvinfer, and a venv with --system-site-packages); "
        "elsewhere pip install tensorrt"
    ),
    RTX: "pip install 'edgeclip[tensorrt-rtx]' (x86-64)",
}
TABLE = "Layers:"  # what the builder's log of its layers begins with
KEPT_LINES = 200


@dataclass(frozen=True)
class Library:
    """runtime: TENSORRT or RTX, as in a manifest's target. version: of the library, like 10.3.0."""

    runtime: str
    module: Any
    version: str

    @property
    def release(self) -> tuple[int, ...]:
        """(10, 3) of 10.3.0, for comparisons."""
        return tuple(int(part) for part in self.version.split(".")[:2])


def load_library(runtime: str) -> Library:
    """Import TensorRT or TensorRT-RTX. Raises EngineError with the line that installs it, UsageError for neither."""
    if runtime not in MODULES:
        raise UsageError(f"{runtime} is no TensorRT", f"one of: {', '.join(MODULES)}")
    reasons: list[str] = []
    for name in MODULES[runtime]:
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: its shared libraries are not those it was made for
            reasons.append(str(error))
            cause = error
            continue
        return Library(runtime, module, str(module.__version__))
    raise EngineError(f"{runtime} cannot be imported here: {'; '.join(reasons)}", INSTALL[runtime]) from cause


class LogLines:
    """What TensorRT said: errors and warnings, and the builder's table of layers, which comes at its lowest level."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.table = ""

    def add(self, severity: str, text: str) -> None:
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self._keep(self.errors, text)
        elif severity == "WARNING":
            self._keep(self.warnings, text)
        elif text.startswith(TABLE):
            self.table += text[len(TABLE) :] + "\n"

    def why(self, limit: int = 3) -> str:
        """The last errors in one line."""
        told = list(dict.fromkeys(" ".join(error.split()) for error in self.errors))
        return "; ".join(told[-limit:]) or "it gave no reason"

    @staticmethod
    def _keep(lines: list[str], text: str) -> None:
        if len(lines) < KEPT_LINES:
            lines.append(text)


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile. TensorRT calls the logger with its own lock held: were a builder that an earlier
    failure left in a reference cycle collected in that call, its destructor would wait for the lock for ever."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def make_logger(library: Library, lines: LogLines) -> Any:
    """An ILogger that fills `lines`; nothing reaches the terminal."""
    interface = library.module.ILogger

    def begin(self: Any) -> None:
        interface.__init__(self)

    def log(self: Any, severity: Any, text: str) -> None:
        lines.add(severity.name, text)

    # A class made by hand: its base is known only when it runs.
    return type("Logger", (interface,), {"__init__": begin, "log": log})()
