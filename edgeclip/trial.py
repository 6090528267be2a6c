"""One engine tried out in a process of its own, for `edgeclip doctor`: a runtime that crashes takes only that with it.

Run as `python -m edgeclip.trial BUNDLE FILE BACKEND`; one JSON object goes to standard output.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

import edgeclip
from edgeclip.bundle import Bundle, EngineEntry, open_bundle
from edgeclip.cuda import NoGpu
from edgeclip.errors import EdgeclipError, causes
from edgeclip.runtime.backends import Backend, candidates, open_engine
from edgeclip.runtime.backends.plan_target import StalePlan
from edgeclip.runtime.golden import check_golden

RUNS = 10
LIMIT_S = 120.0


class Trial(msgspec.Struct, frozen=True):
    """What came of it. error: "" where it works; hint: the remedy.

    missing: the runtime is not installed, or there is no GPU. elsewhere: the plan is for another GPU or TensorRT.

    latency_ms: median of RUNS inferences. min_cosine, centred: of the golden frames, for image engines.
    """

    runtime: str = ""
    latency_ms: float = 0.0
    min_cosine: float | None = None
    centred: float | None = None
    missing: bool = False
    elsewhere: bool = False
    error: str = ""
    hint: str = ""


def try_engine(bundle: Bundle, entry: EngineEntry, backend: Backend) -> Trial:
    """Load an engine and run it, in a child process that is killed after LIMIT_S."""
    environment = dict(os.environ)
    root = str(Path(edgeclip.__file__).resolve().parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "edgeclip.trial", str(bundle.path), entry.file, backend.name]
    try:
        child = subprocess.run(command, capture_output=True, env=environment, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return Trial(error=f"no inference within {LIMIT_S:.0f} s", hint=f"update it: {backend.install}")
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        hint = (
            f"this build of it is not for this processor, or the engine file is damaged; update it: {backend.install}"
        )
        return Trial(error=f"it crashed ({name})", hint=hint)
    if child.returncode != 0:
        said = child.stderr.decode(errors="replace").strip().splitlines() or ["no output"]
        return Trial(error=f"it failed: {said[-1]}", hint=f"install it again: {backend.install}")
    return msgspec.json.decode(child.stdout, type=Trial)


def run_trial(path: str, file: str, backend_name: str) -> Trial:
    bundle = open_bundle(path)
    entry = next(entry for entry in bundle.manifest.engines if entry.file == file)
    backend = next(backend for backend in candidates(entry)[0] if backend.name == backend_name)
    try:
        engine = open_engine(bundle, entry, backend, threads=1)
        try:
            golden = check_golden(engine, bundle) if entry.role == "image" else None
            batch = np.zeros(engine.input_shape, engine.input_dtype)
            batch.flat[0] = 1  # of text, all padding may have no embedding
            times_ms = []
            for _ in range(RUNS):
                began_s = time.perf_counter()
                engine.run(batch)
                times_ms.append(1e3 * (time.perf_counter() - began_s))
            return Trial(
                runtime=engine.runtime,
                latency_ms=round(float(np.median(times_ms)), 3),
                min_cosine=golden.min_cosine if golden else None,
                centred=golden.centred if golden else None,
            )
        finally:
            engine.close()
    except EdgeclipError as error:
        elsewhere = isinstance(error, StalePlan)
        return Trial(missing=is_missing(error), elsewhere=elsewhere, error=error.message, hint=error.hint)


def is_missing(error: EdgeclipError) -> bool:
    """Whether a module that is not installed is behind it, or a GPU that is not there."""
    return any(isinstance(one, (ModuleNotFoundError, NoGpu)) for one in causes(error))


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(run_trial(*sys.argv[1:4])))
