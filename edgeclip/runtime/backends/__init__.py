"""Engine runtimes by file format: a table, resolved when an engine is loaded. A new one is a file and a line here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeclip.bundle import Bundle, EngineEntry, Manifest
from edgeclip.errors import DataError, EngineError, UsageError
from edgeclip.registry import resolve
from edgeclip.runtime.backends.plan_target import StalePlan
from edgeclip.runtime.backends.trt_library import INSTALL, RTX, TENSORRT
from edgeclip.types import Engine

MAX_DEFAULT_THREADS = 4  # small towers gain nothing from more
UNIT_TOLERANCE = 0.02  # of an embedding's length
PLAN = "plan"


@dataclass(frozen=True, slots=True)
class Backend:
    """One runtime. target: "module:class", called with (path, threads); a plan's also with the manifest's target.

    runs: the manifest's names it answers to.
    """

    name: str
    target: str
    runs: tuple[str, ...]
    install: str


# format -> runtimes, best first
BACKENDS = {
    "tflite": (
        Backend(
            "litert",
            "edgeclip.runtime.backends.litert:LiteRTEngine",
            ("tflite", "litert"),
            "pip install ai-edge-litert",
        ),
        Backend(
            "tflite-runtime",
            "edgeclip.runtime.backends.tflite_runtime:TFLiteRuntimeEngine",
            ("tflite", "tflite-runtime"),
            "pip install tflite-runtime 'numpy<2' (up to Python 3.11)",
        ),
    ),
    "onnx": (
        Backend(
            "onnxruntime",
            "edgeclip.runtime.backends.onnxruntime:OnnxRuntimeEngine",
            ("onnx", "onnxruntime"),
            "pip install 'edgeclip[onnx]'",
        ),
        Backend(
            "openvino",
            "edgeclip.runtime.backends.openvino:OpenVinoEngine",
            ("onnx", "onnxruntime", "openvino"),
            "pip install 'edgeclip[openvino]'",
        ),
    ),
    PLAN: tuple(
        Backend(name, "edgeclip.runtime.backends.tensorrt:TensorRTEngine", (name,), INSTALL[name])
        for name in (TENSORRT, RTX)
    ),
}
NAMES = tuple(backend.name for backends in BACKENDS.values() for backend in backends)


def load_engine(bundle: Bundle, role: str, *, backend: str | None = None, threads: int | None = None) -> Engine:
    """The first engine of `role` ("image", "text") that runs here, in the manifest's order, after one trial inference.

    backend: only this one of NAMES. threads: None for default_threads(). What runs is named by the engine's `runtime`.
    Raises EngineError naming every candidate and why it does not run, DataError for a file that is not an engine or
    does not fit the manifest, UsageError for an unknown backend. StalePlan where there is a plan for another TensorRT,
    GPU or JetPack than this device's, and none for it: a processor in its place would be a silent loss.
    """
    if backend is not None and backend not in NAMES:
        raise UsageError(f"--backend {backend}: no such engine runtime", f"one of: {', '.join(NAMES)}")
    wanted = f"{role} engine" + (f" for --backend {backend}" if backend else "")
    reasons: list[str] = []
    remedies: dict[str, None] = {}
    stale: StalePlan | None = None
    for entry in bundle.engines(role):
        if stale is not None and entry.format != PLAN and backend is None:
            break
        found, unfit = candidates(entry)
        reasons += unfit
        for candidate in found:
            if backend not in (None, candidate.name):
                continue
            try:
                return open_engine(bundle, entry, candidate, threads)
            except StalePlan as error:
                stale = stale or error
                remedies[f"edgeclip compile {bundle.origin} (`run --recompile` does it), or another --backend"] = None
            except EngineError as error:
                reasons.append(f"{entry.file} with {candidate.name}: {error.message}")
                remedies[error.hint] = None
    if stale is not None:
        raise StalePlan(stale.message, " or ".join(remedies), stale.runtime)
    if not remedies:
        offered = sorted({found.name for entry in bundle.engines(role) for found in candidates(entry)[0]})
        remedies[f"runtimes it has {role} engines for: {', '.join(offered) or 'none'}"] = None
    because = ": " + "; ".join(reasons) if reasons else ""
    raise EngineError(f"bundle {bundle.origin} has no {wanted} that runs here{because}", " or ".join(remedies))


def candidates(entry: EngineEntry) -> tuple[list[Backend], list[str]]:
    """The runtimes an engine file may run on, best first, installed or not; and why others of its format may not."""
    backends = BACKENDS[entry.format]
    wanted = entry.target.runtime
    fit = [backend for backend in backends if wanted in backend.runs]
    return fit, [f"{entry.file} is for {wanted}, not {other.name}" for other in backends if other not in fit]


def open_engine(bundle: Bundle, entry: EngineEntry, backend: Backend, threads: int | None = None) -> Engine:
    """One engine file with one runtime, after a trial inference. Raises EngineError, DataError."""
    try:
        factory = resolve(backend.target, what=backend.name)
    except EngineError as error:
        raise EngineError(str(error.__cause__ or error.message), backend.install) from error
    arguments = [bundle.file(entry.file), threads or default_threads()]
    if entry.format == PLAN:
        arguments.append(entry.target)
    engine: Engine = factory(*arguments)
    try:
        _try(engine, entry, bundle.manifest)
    except BaseException:
        engine.close()
        raise
    return engine


def default_threads() -> int:
    """All but one of the cores this process may use: the next frame is read and preprocessed meanwhile."""
    return max(1, min(MAX_DEFAULT_THREADS, len(os.sched_getaffinity(0)) - 1))


def _try(engine: Engine, entry: EngineEntry, manifest: Manifest) -> None:
    """One inference of a harmless input. Anything but unit vectors of the manifest's dimension is refused."""
    expected, sample = _sample(engine, entry, manifest)
    if sample is None:
        raise DataError(
            f"{entry.file} takes {engine.input_dtype} {list(engine.input_shape)}, and the manifest says {expected}",
            "the bundle does not fit together: build it again",
        )
    rows = engine.run(sample)
    if rows.shape != (engine.input_shape[0], manifest.dim) or rows.dtype != np.float32:
        raise DataError(
            f"{entry.file} returns {rows.dtype} {list(rows.shape)}, and the manifest says float32 [N, {manifest.dim}]",
            "the bundle does not fit together: build it again",
        )
    lengths = np.linalg.norm(rows, axis=1)
    if (np.abs(lengths - 1.0) > UNIT_TOLERANCE).any():
        raise EngineError(
            f"its embeddings have length {lengths[0]:.3f} instead of 1",
            f"{engine.runtime} computes this engine wrongly: use another --backend, or build the bundle again",
        )


def _sample(engine: Engine, entry: EngineEntry, manifest: Manifest) -> tuple[str, npt.NDArray[Any] | None]:
    """What the manifest says an engine takes, in words, and an input of that kind; None where this engine differs."""
    if entry.role == "image":
        height, width = manifest.preprocess.size
        if engine.input_dtype != np.uint8 or engine.input_shape[1:] != (height, width, 3):
            return f"uint8 [N, {height}, {width}, 3]", None
        ramp = np.arange(height * width * 3, dtype=np.uint8).reshape(1, height, width, 3)
        return "", np.repeat(ramp, engine.input_shape[0], axis=0)
    length = manifest.text.context_length
    if engine.input_dtype != np.int32 or engine.input_shape[1:] != (length,):
        return f"int32 [N, {length}]", None
    token = 1 if manifest.text.pad_id == 0 else 0  # padding alone may have no embedding
    return "", np.full(engine.input_shape, token, np.int32)
