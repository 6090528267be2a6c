"""Plans for a bundle: each ONNX engine of it compiled, its table of layers beside it."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from edgeclip.bundle import EngineEntry
from edgeclip.compile.builder import Options, Plan, build_plan
from edgeclip.compile.layers import Table
from edgeclip.compile.memory import available_bytes, plan_workspace
from edgeclip.compile.rivals import INT8, choose
from edgeclip.compile.target import Aim, timing_cache
from edgeclip.errors import UsageError
from edgeclip.progress import Progress
from edgeclip.runtime.backends.trt_library import RTX

LAYERS = ".layers.json"


@dataclass(frozen=True)
class Compiled:
    """entry: for the manifest. plan, layers: the files. plan_bytes: its size. table: what computes in INT8.

    latency_ms: of one run, by precision, where INT8 and floating point were timed beside each other; else empty.
    """

    entry: EngineEntry
    plan: Path
    layers: Path
    plan_bytes: int
    table: Table
    latency_ms: dict[str, float]

    def __str__(self) -> str:
        return f"{self.entry.file}: {self.plan_bytes / 1e6:.1f} MB, {self.table}"


def compile_engines(
    engines: Sequence[tuple[EngineEntry, Path]],
    aim: Aim,
    options: Options,
    directory: Path,
    progress: Progress,
    workspace: int | None = None,
) -> list[Compiled]:
    """Compile ONNX engines (their entry and their file) into `directory`.

    workspace: bytes, None for what the memory here allows. Raises EngineError before anything is built where it cannot.
    """
    if not engines:
        raise UsageError("there is no ONNX engine to compile", "build the bundle with --target onnx as well")
    largest = max(path.stat().st_size for _, path in engines)
    options = replace(
        options,
        archs=aim.archs if aim.library.runtime == RTX else (),
        timing_cache=timing_cache(aim),
        workspace=plan_workspace(largest, aim.library.runtime, available_bytes(), workspace),
    )
    return [compile_engine(entry, path, aim, options, directory, progress) for entry, path in engines]


def compile_engine(
    entry: EngineEntry, path: Path, aim: Aim, options: Options, directory: Path, progress: Progress
) -> Compiled:
    if entry.role != "image":  # a text encoder runs when labels change, one prompt at a time, whatever pictures do
        options = replace(
            options, batches=(1,), precision="int8" if options.precision == "faster" else options.precision
        )
    target = aim.target(options)
    stem = plan_stem(entry.role, target.runtime, target.version, target.gpu_arch)
    plan, layers = directory / f"{stem}.plan", directory / f"{stem}{LAYERS}"
    precision, built, latency_ms = build_kept(entry, path, aim, options, plan, progress)
    facts = {
        "plan": plan.name,
        "precision": precision,
        "latency_ms": latency_ms,
        "target": msgspec.to_builtins(target),
        "batches": list(options.batches),
        **msgspec.to_builtins(built.table),
    }
    layers.write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=1) + b"\n")
    made = EngineEntry(entry.role, plan.name, "plan", precision, target)
    return Compiled(made, plan, layers, len(built.data), built.table, latency_ms)


def build_kept(
    entry: EngineEntry, path: Path, aim: Aim, options: Options, plan: Path, progress: Progress
) -> tuple[str, Plan, dict[str, float]]:
    """Write the plan to `plan`: as the Q/DQ says, in floating point, or the faster of both on the GPU that is here."""
    build = functools.partial(build_plan, aim.library, path, progress=progress)
    if options.precision == "float":
        built = build(options=options)
        plan.write_bytes(built.data)
        return options.floats, built, {}
    built = build(options=replace(options, precision="int8"))
    plan.write_bytes(built.data)
    if options.precision == "int8" or aim.ahead or not built.quantized:
        return entry.precision, built, {}
    rival, beside = build(options=replace(options, precision="float")), plan.with_suffix(".rival")
    beside.write_bytes(rival.data)
    choice = choose({INT8: plan, options.floats: beside}, aim.target(options))
    progress.note(f"{entry.role}: {choice}")
    if choice.precision == INT8:
        beside.unlink()
        return entry.precision, built, choice.latency_ms
    beside.replace(plan)
    return options.floats, rival, choice.latency_ms


def plan_stem(role: str, runtime: str, version: str, gpu_arch: str) -> str:
    """image.tensorrt-10.3.0-sm87: one name for one target, so that compiling again takes its place."""
    archs = re.sub(r"[^a-z0-9]+", "-", gpu_arch.replace("_", "").replace("+", "up"))
    return f"{role}.{runtime}-{version.replace('+', 'up')}-{archs}"
