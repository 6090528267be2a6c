"""What one build is to do, with every path resolved; and the digests that its steps are known by."""

from __future__ import annotations

import difflib
import glob
import hashlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import msgspec

import edgeclip
from edgeclip.build.checkpoints.place import Place
from edgeclip.build.frames import DEMO, require_frames
from edgeclip.build.recipe import MINIMUM_FRAMES, Plan, TargetName
from edgeclip.build.source import Model, place_of, plan_of
from edgeclip.build.steps import digest_of_path
from edgeclip.bundle import sha256
from edgeclip.errors import DataError, UsageError
from edgeclip.progress import Progress

TOOLS = ("torch", "litert-torch", "ai-edge-quantizer", "ai-edge-litert", "onnx", "onnxscript", "onnxruntime")

CHECKPOINTS = (
    "__init__", "encoders", "huggingface", "norms", "onnx_rewrite", "onnx_tower", "onnximage", "onnxpair", "openai",
    "openclip", "ours", "part_names", "place", "sentences", "tokenizer_files", "torchvision_ops",
)  # fmt: skip
TOKENIZER = (
    "__init__", "bpe", "component", "fixtext", "normalizers", "precompiled", "processors", "splitters", "unicode8",
    "unigram", "wordpiece",
)  # fmt: skip

# Beside a step's own file, what decides what it produces; what an earlier step names counts for later ones too.
CODE: dict[str, tuple[str, ...]] = {
    "export": (
        "build/exporter.py",
        "build/graphs.py",
        "build/observers.py",
        "build/onnxgraph.py",
        "build/opened.py",
        "build/powers.py",
        "build/tflite.py",
        *(f"build/checkpoints/{name}.py" for name in CHECKPOINTS),
        *(f"runtime/tokenizer/{name}.py" for name in TOKENIZER),
        "train/towers.py",
        "train/checkpoint.py",
    ),
    "calibrate": ("archive.py", "build/frames.py", "picture.py", "runtime/preprocess.py", "runtime/sources/demo.py"),
    "compile": tuple(f"compile/{name}.py" for name in ("network", "builder", "layers", "plans", "target")),
    "quantize": (
        "build/findings.py",
        "build/measure.py",
        "build/tflite_rewrite.py",
        "build/search.py",
        "build/local.py",
        "build/spec.py",
        "build/rewrite.py",
        "build/rounding.py",
        "build/rows.py",
        "build/sites.py",
        "build/capture.py",
        "build/waists.py",
    ),
    "verify": (
        "build/carry.py",
        "build/figures.py",
        "build/gates.py",
        "build/markdown.py",
        "build/page.py",
        "build/compare.py",
        "build/reference_preprocess.py",
        "build/report.py",
        "build/pack.py",
        "datasets.py",
        "npz.py",
        "runtime/frames.py",
        "runtime/text.py",
        "runtime/text_bank.py",
        "runtime/backends/openvino.py",
    ),
}


@dataclass(frozen=True)
class Order:
    """One build with every path resolved."""

    plan: Plan
    place: Place
    calibration: str
    golden: str
    targets: tuple[TargetName, ...]
    out: Path
    work: Path
    data: Path | None
    labels: Path | None
    budget_minutes: float

    def checkpoint_digest(self) -> str:
        """Of the checkpoint's file or directory; of an image tower with its bank and the files its weights are in."""
        paths = [Path(path) for path in self.place.files()]
        if self.place.loader == "onnx-image":
            from edgeclip.build.checkpoints.onnx_rewrite import weight_files

            paths += weight_files(paths[0])
        digests = [digest_of_path(path) for path in paths]
        return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()

    def place_facts(self) -> dict[str, Any]:
        """What else decides how the checkpoint is read; not where it lies."""
        facts: dict[str, Any] = msgspec.to_builtins(self.place)
        return {key: value for key, value in facts.items() if key not in ("path", "text_bank")}

    def as_data(self) -> dict[str, Any]:
        """The recipe as it was carried out, for the manifest; of paths outside the project only the last name."""
        return {
            **self.plan.as_data(),
            "checkpoint": Path(self.place.path).name,
            "calibration": Path(self.calibration).name,
            "golden": Path(self.golden).name,
            "targets": list(self.targets),
        }


def resolve(
    recipe: str | Path | None,
    model: Model,
    checkpoint: str | Path | None,
    calibration: str | None,
    targets: Sequence[str] | None,
    out: str | Path | None,
    work: str | Path | None,
    data: str | Path | None,
    labels: str | Path | None,
    budget: float | None,
    progress: Progress,
) -> Order:
    """What is to be built, from the recipe and the options given; a hub's model is downloaded here.

    Raises ConfigError, UsageError, DataError, and EngineError for a hub that cannot be reached.
    """
    plan, path = plan_of(recipe, model)
    wanted = plan.recipe
    for target in targets or ():
        require_target(target)
    place = calibration or _place(plan, wanted.calibration)
    if not place:
        raise DataError(
            f"{recipe or wanted.name} names no calibration set, and INT8 cannot be built without one",
            "give --calibration with 256 to 512 pictures of what the camera will see",
        )
    require_frames(place, MINIMUM_FRAMES)  # before anything is downloaded or exported
    order = Order(
        plan=plan,
        place=place_of(plan, path, checkpoint, model, progress),
        calibration=place,
        golden=_place(plan, wanted.golden) or place,
        targets=cast(tuple[TargetName, ...], tuple(targets)) if targets else wanted.targets,
        out=place_for(plan, out, model),
        work=Path(work) if work else Path("build-work") / wanted.name,
        data=Path(data) if data else plan.path(wanted.data) if wanted.data else None,
        labels=Path(labels) if labels else plan.path(wanted.labels) if wanted.labels else None,
        budget_minutes=budget if budget is not None else plan.quantization.search.budget_minutes,
    )
    if order.data is not None and order.labels is None:
        hint = "give --eval-labels FILE, or labels: in the recipe"
        raise UsageError(f"{order.data} is to be measured on, and no labels are given", hint)
    return order


def require_target(target: str) -> None:
    """Raises UsageError for what is no target."""
    known = get_args(TargetName)
    if target not in known:
        near = difflib.get_close_matches(target, known, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"--target: {target!r} is not one we build", f"{hint}a list of {', '.join(known)}")


def place_for(plan: Plan, out: str | Path | None, model: Model) -> Path:
    """Where the bundle goes: beside the recipe, unless the recipe was only a model's name."""
    if out:
        return Path(out)
    return (
        Path(plan.recipe.name)
        if model.given and not plan.recipe.out
        else plan.path(plan.recipe.out or plan.recipe.name)
    )


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
