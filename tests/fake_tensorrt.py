"""A TensorRT in forty lines: its interface by tensor names, on the emulated GPU. A plan is JSON that says what it is.

It multiplies the mean of each picture by a row of numbers, on whatever addresses it was given, when the stream says so.
"""

from __future__ import annotations

import ctypes
import json
from enum import Enum
from types import ModuleType
from typing import Any

import numpy as np
from host_gpu import library

__version__ = "10.3.0"
TensorIOMode = Enum("TensorIOMode", ["INPUT", "OUTPUT"])
CALLBACK = ctypes.CFUNCTYPE(None)


class ILogger:
    def __init__(self) -> None: ...


def nptype(kind: str) -> Any:
    return np.dtype(kind)


def plan(batch: int = 1, size: int = 4, dim: int = 3, **changes: Any) -> bytes:
    """A plan: uint8 [batch, size, size, 3] -> float32 [batch, dim]. open: its batch is. fails: what returns False."""
    facts = {"batch": batch, "size": size, "dim": dim, "open": False, "fails": "", "captures": True, "dtype": "float32"}
    return json.dumps({**facts, **changes}).encode()


class Runtime:
    def __init__(self, logger: Any) -> None:
        self.logger = logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
        try:
            return Engine(json.loads(data), self.logger)
        except ValueError:
            severity = Enum("Severity", ["ERROR"]).ERROR  # type: ignore[attr-defined]
            self.logger.log(severity, "the stream is no plan")
            return None


class Engine:
    num_io_tensors = 2

    def __init__(self, facts: dict[str, Any], logger: Any) -> None:
        self.facts, self.logger = facts, logger

    def get_tensor_name(self, i: int) -> str:
        return ("vector", "input")[i]  # the order of tensors is nobody's promise

    def get_tensor_mode(self, name: str) -> Any:
        return TensorIOMode.INPUT if name == "input" else TensorIOMode.OUTPUT  # type: ignore[attr-defined]

    def get_tensor_dtype(self, name: str) -> str:
        return "uint8" if name == "input" else self.facts["dtype"]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = self.shape(name)
        return (-1, *shape[1:]) if self.facts["open"] else shape

    def get_tensor_profile_shape(self, name: str, profile: int) -> tuple[tuple[int, ...], ...]:
        return (self.shape(name),) * 3

    def shape(self, name: str) -> tuple[int, ...]:
        f = self.facts
        return (f["batch"], f["size"], f["size"], 3) if name == "input" else (f["batch"], f["dim"])

    def create_execution_context(self) -> Context | None:
        return None if self.facts["fails"] == "context" else Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.chosen: tuple[int, ...] = () if engine.facts["open"] else engine.shape("input")
        self.kept: list[Any] = []

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        return profile == 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.chosen = tuple(shape)
        return self.chosen == self.engine.shape(name)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.engine.shape(name) if self.chosen else (-1,)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return self.engine.facts["fails"] != "address"

    def execute_async_v3(self, stream: int) -> bool:
        if self.engine.facts["fails"] == "inference":
            return False
        work = CALLBACK(self.compute)
        self.kept.append(work)
        enqueue = library().host_enqueue
        enqueue.argtypes = (ctypes.c_void_p, CALLBACK)
        enqueue(stream, work)
        return True

    def compute(self) -> None:
        source, result = (self.at(name) for name in ("input", "vector"))
        means = source.reshape(len(source), -1).mean(axis=1, dtype=np.float64)
        rows = means[:, None] + np.arange(1, result.shape[1] + 1)
        result[...] = np.nan if self.engine.facts["fails"] == "finite" else rows / np.linalg.norm(rows, axis=1)[:, None]

    def at(self, name: str) -> Any:
        shape, dtype = self.engine.shape(name), nptype(self.engine.get_tensor_dtype(name))
        memory = (ctypes.c_ubyte * (int(np.prod(shape)) * dtype.itemsize)).from_address(self.addresses[name])
        return np.frombuffer(memory, dtype).reshape(shape)


def as_module() -> ModuleType:
    """To be put into sys.modules as `tensorrt`."""
    module = ModuleType("tensorrt")
    module.__dict__.update({name: value for name, value in globals().items() if not name.startswith("_")})
    module.__dict__["__version__"] = __version__
    return module
