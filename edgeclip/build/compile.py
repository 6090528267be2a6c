"""The build's compile step: TensorRT plans from the Q/DQ ONNX that verify kept. The work is edgeclip.compile's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from edgeclip.build.report import Candidate
from edgeclip.bundle import EngineEntry, Target
from edgeclip.compile.builder import Options
from edgeclip.compile.plans import LAYERS, compile_engines
from edgeclip.compile.target import Aim, aim_at
from edgeclip.progress import Progress
from edgeclip.runtime.backends.trt_library import RTX, TENSORRT

ENTRIES = "entries.json"
ROLES: tuple[Literal["image"], Literal["text"]] = ("image", "text")


@dataclass(frozen=True)
class PlanFiles:
    """entry: for the manifest. plan, layers: the files."""

    entry: EngineEntry
    plan: Path
    layers: Path


def aims_for(targets: Sequence[str]) -> list[Aim]:
    """Raises EngineError where a TensorRT that is asked for, or its GPU, is missing."""
    return [aim_at(target, ()) for target in targets if target in (TENSORRT, RTX)]


def compile_plans(
    kept: Sequence[Candidate], aims: Sequence[Aim], quantized: Path, directory: Path, progress: Progress
) -> None:
    """Write a plan and its table of layers to `directory` for every ONNX engine that verify kept, and for every aim."""
    engines = [
        (
            EngineEntry(role, f"{role}.onnx", "onnx", candidate.precision, Target("onnxruntime")),
            quantized / candidate.file,
        )
        for role in ROLES
        for candidate in kept
        if candidate.file == f"{role}.onnx"
    ]
    made = [one for aim in aims for one in compile_engines(engines, aim, Options(), directory, progress)]
    for one in made:
        progress.note(str(one))
    (directory / ENTRIES).write_bytes(msgspec.json.format(msgspec.json.encode([one.entry for one in made])))


def load_plans(directory: Path) -> list[PlanFiles]:
    entries = msgspec.json.decode((directory / ENTRIES).read_bytes(), type=list[EngineEntry])
    return [
        PlanFiles(entry, directory / entry.file, directory / (entry.file.removesuffix(".plan") + LAYERS))
        for entry in entries
    ]
