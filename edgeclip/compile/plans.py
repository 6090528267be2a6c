"""Plans for a bundle: each ONNX engine of it compiled, its table of layers beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from edgeclip.bundle import EngineEntry
from edgeclip.compile.builder import Options, build_plan
from edgeclip.compile.layers import Table
from edgeclip.compile.memory import available_bytes, plan_workspace
from edgeclip.compile.target import Aim, timing_cache
from edgeclip.errors import UsageError
from edgeclip.progress import Progress
from edgeclip.runtime.backends.trt_library import RTX

LAYERS = ".layers.json"


@dataclass(frozen=True)
class Compiled:
    """entry: for the manifest. plan, layers: the files. plan_bytes: its size. table: what computes in INT8."""

    entry: EngineEntry
    plan: Path
    layers: Path
    plan_bytes: int
    table: Table


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
    # A text encoder's batch is one prompt, whatever is wanted of pictures.
    options = options if entry.role == "image" else replace(options, batches=(1,))
    built = build_plan(aim.library, path, options, progress)
    target = aim.target(options)
    stem = plan_stem(entry.role, target.runtime, target.version, target.gpu_arch)
    plan, layers = directory / f"{stem}.plan", directory / f"{stem}{LAYERS}"
    plan.write_bytes(built.data)
    facts = {
        "plan": plan.name,
        "target": msgspec.to_builtins(target),
        "batches": list(options.batches),
        **msgspec.to_builtins(built.table),
    }
    layers.write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=1) + b"\n")
    progress.note(f"{plan.name}: {len(built.data) / 1e6:.1f} MB, {built.table}")
    made = EngineEntry(entry.role, plan.name, "plan", entry.precision, target)
    return Compiled(made, plan, layers, len(built.data), built.table)


def plan_stem(role: str, runtime: str, version: str, gpu_arch: str) -> str:
    """image.tensorrt-10.3.0-sm87: one name for one target, so that compiling again takes its place."""
    archs = re.sub(r"[^a-z0-9]+", "-", gpu_arch.replace("_", "").replace("+", "up"))
    return f"{role}.{runtime}-{version.replace('+', 'up')}-{archs}"
