"""What one build is to do, with every path resolved; and the digests that its steps are known by."""

from __future__ import annotations

import glob
import hashlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import edgeclip
from edgeclip.build.frames import DEMO
from edgeclip.build.recipe import Plan, TargetName, load_plan
from edgeclip.build.steps import digest_of_path
from edgeclip.bundle import sha256
from edgeclip.errors import DataError, UsageError

TOOLS = ("torch", "litert-torch", "ai-edge-quantizer", "ai-edge-litert", "onnx", "onnxscript", "onnxruntime")

CODE: dict[str, tuple[str, ...]] = {
    "export": ("build/exporter.py", "build/graphs.py", "train/towers.py", "train/checkpoint.py"),
    "calibrate": ("build/frames.py", "build/onnxgraph.py", "build/tflite.py", "runtime/preprocess.py"),
    "quantize": (
        "build/onnxgraph.py",
        "build/tflite.py",
        "build/search.py",
        "build/local.py",
        "build/observers.py",
        "build/spec.py",
        "build/rewrite.py",
        "build/sites.py",
        "build/capture.py",
        "build/waists.py",
    ),
    "verify": (
        "build/figures.py",
        "build/page.py",
        "build/compare.py",
        "build/measure.py",
        "build/report.py",
        "build/pack.py",
        "runtime/text.py",
    ),
}


@dataclass(frozen=True)
class Order:
    """One build with every path resolved."""

    plan: Plan
    checkpoint: Path
    calibration: str
    golden: str
    targets: tuple[TargetName, ...]
    out: Path
    work: Path
    data: Path | None
    labels: Path | None
    budget_minutes: float

    def as_data(self) -> dict[str, Any]:
        """The recipe as it was carried out, for the manifest; of paths outside the project only the last name."""
        return {
            **self.plan.as_data(),
            "checkpoint": self.checkpoint.name,
            "calibration": Path(self.calibration).name,
            "golden": Path(self.golden).name,
            "targets": list(self.targets),
        }


def resolve(
    recipe: Path,
    checkpoint: str | Path | None,
    calibration: str | None,
    targets: Sequence[str] | None,
    out: str | Path | None,
    work: str | Path | None,
    data: str | Path | None,
    labels: str | Path | None,
    budget: float | None = None,
) -> Order:
    """What is to be built, from the recipe and the options given. Raises ConfigError, UsageError, DataError."""
    plan = load_plan(recipe)
    wanted = plan.recipe
    for target in targets or ():
        if target not in ("tflite", "onnx"):
            raise UsageError(f"--target {target} is not one we build yet", "give tflite, onnx, or both: tflite,onnx")
    place = calibration or _place(plan, wanted.calibration)
    if not place:
        raise DataError(
            f"{recipe} names no calibration set, and INT8 cannot be built without one",
            "give --calibration with 256 to 512 pictures of what the camera will see",
        )
    order = Order(
        plan=plan,
        checkpoint=Path(checkpoint) if checkpoint else plan.path(wanted.checkpoint),
        calibration=place,
        golden=_place(plan, wanted.golden) or place,
        targets=cast(tuple[TargetName, ...], tuple(targets)) if targets else wanted.targets,
        out=Path(out) if out else plan.path(wanted.out or wanted.name),
        work=Path(work) if work else Path("build-work") / wanted.name,
        data=Path(data) if data else plan.path(wanted.data) if wanted.data else None,
        labels=Path(labels) if labels else plan.path(wanted.labels) if wanted.labels else None,
        budget_minutes=budget if budget is not None else plan.quantization.search.budget_minutes,
    )
    if not order.checkpoint.is_file():
        raise DataError(
            f"checkpoint {order.checkpoint} does not exist",
            "check the path, or train one: edgeclip train CONFIG.yaml",
        )
    if order.data is not None and order.labels is None:
        hint = "give --eval-labels FILE, or labels: in the recipe"
        raise UsageError(f"{order.data} is to be measured on, and no labels are given", hint)
    return order


def _place(plan: Plan, name: str) -> str:
    """A place named in the recipe: `demo`, or a path relative to the recipe."""
    return name if name in ("", DEMO) else str(plan.path(name))


def place_digest(place: str) -> str:
    """What a calibration set or data set is known by: the digest of its files, or of their names for a pattern."""
    if place == DEMO:
        return f"{DEMO} {_version('scikit-image')}"
    path = Path(place).expanduser()
    if path.exists():
        return digest_of_path(path)
    digest = hashlib.sha256()
    for name in sorted(glob.glob(place, recursive=True)):
        digest.update(f"{name} {digest_of_path(Path(name))}\n".encode())
    return digest.hexdigest()


def code_digest(step: str) -> str:
    """Of the code that decides what a step produces: a step made by other code is made again."""
    package = Path(edgeclip.__file__).parent
    digest = hashlib.sha256()
    for name in (f"build/{step}.py", *CODE[step]):
        digest.update(f"{name} {sha256(package / name)}\n".encode())
    return digest.hexdigest()


def tool_versions() -> dict[str, str]:
    return {name: _version(name) for name in TOOLS}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
