"""BUILD: export -> calibrate -> quantize -> verify -> compile -> pack, as resumable steps that leave a bundle."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from edgeclip.build.calibrate import calibrate
from edgeclip.build.compile import PlanFiles, aims_for, compile_plans, load_plans
from edgeclip.build.export import Exported, export, graphs_for, load_facts
from edgeclip.build.frames import frames_of
from edgeclip.build.order import Order, code_digest, place_digest, resolve, tool_versions
from edgeclip.build.pack import pack
from edgeclip.build.quantize import STATIC_FILE, quantize
from edgeclip.build.recipe import Quantization
from edgeclip.build.report import EDGE_TPU, Report, load_report
from edgeclip.build.search import searches
from edgeclip.build.source import Model
from edgeclip.build.steps import Steps, exclusive
from edgeclip.build.suited import recipes, suited
from edgeclip.build.verify import verify
from edgeclip.edgetpu import examine, require_compatible
from edgeclip.errors import EngineError, UsageError
from edgeclip.progress import Progress, Silent
from edgeclip.replace import require_replaceable, require_writable
from edgeclip.runtime.labels import parse_labels
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.types import Label, Pixels
from edgeclip.yamlfile import load_yaml

LOG = "export.log"
MODULES = ("torch", "litert_torch", "ai_edge_quantizer", "ai_edge_litert", "onnx", "onnxruntime", "safetensors", "PIL")
FRAMES_PER_WANTED = 3  # looked at in a calibration set: one is used, one or none held out, duplicates are left out


@dataclass(frozen=True)
class BuildResult:
    """bundle: where it is. changed: False where the same bundle already lay there. skipped: steps that were up to date.

    seconds: time of each step, of an earlier build where it was skipped.
    """

    bundle: Path
    report: Report
    changed: bool
    skipped: tuple[str, ...]
    seconds: dict[str, float]


def build(
    recipe: str | Path | None = None,
    *,
    model: Model | None = None,
    checkpoint: str | Path | None = None,
    calibration: str | None = None,
    targets: Sequence[str] | None = None,
    out: str | Path | None = None,
    work: str | Path | None = None,
    data: str | Path | None = None,
    labels: str | Path | None = None,
    budget: float | None = None,
    edgetpu_compatible: bool = False,
    progress: Progress | None = None,
) -> BuildResult:
    """Build a bundle from an engine recipe, or of a model; what is given here goes before what the recipe says.

    calibration: a folder, glob, shards, clip, or "demo". targets: "tflite", "onnx", "tensorrt" (with a GPU),
    "tensorrt-rtx" (without one too). out: directory or .tar.
    work: where steps keep their results (default: build-work/NAME here). data, labels: what accuracy is measured on.
    budget: minutes that the search for a quantization may take. edgetpu_compatible: quantize by
    calibration/edgetpu.yaml, whatever the recipe says, and refuse a tower that does not fit a Coral Edge TPU.
    Raises ConfigError for the recipe, DataError for a checkpoint, a calibration set or an accuracy that is not good
    enough (nothing is written then), UsageError for what contradicts itself.
    """
    progress = progress or Silent()
    require_tools()
    order = resolve(
        recipe, model or Model(), checkpoint, calibration, targets, out, work, data, labels, budget, progress
    )
    if edgetpu_compatible:
        order = for_edgetpu(order)
    require_replaceable(order.out)
    require_writable(order.out)
    aims_for(order.targets)  # raises where TensorRT or its GPU is missing, before anything is done
    with exclusive(order.work):
        return _Build(order, progress).run()


def for_edgetpu(order: Order) -> Order:
    """The same order, quantized by the recipe for the Edge TPU. Raises UsageError where it builds no TFLite."""
    if "tflite" not in order.targets:
        raise UsageError("--edgetpu-compatible is about TFLite, which is not among the targets", "--target tflite")
    chosen = load_yaml(recipes() / "edgetpu.yaml", Quantization)
    return replace(order, plan=msgspec.structs.replace(order.plan, quantization=chosen, open=False))


def require_tools() -> None:
    """Raises EngineError for what a build needs and is not installed, before anything is done."""
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineError(f"a build needs {', '.join(missing)}, not installed here", "pip install 'edgeclip[build]'")


class _Build:
    """One order, step by step. Every step also depends on what those before it were made from, and on what they made
    of it: a search that is run again may end elsewhere."""

    def __init__(self, order: Order, progress: Progress) -> None:
        self._order, self._progress = order, progress
        self._steps = Steps(order.work, progress)
        self._made_from: dict[str, Any] = {"tools": tool_versions()}

    def run(self) -> BuildResult:
        sampling = self._order.plan.sampling
        # What it names is read now: refused before any work.
        labels = parse_labels(self._order.labels) if self._order.labels else ()
        frames = frames_of(self._order.calibration, FRAMES_PER_WANTED * sampling.frames, sampling.seed)
        exported_in = self._export()
        exported = load_facts(exported_in)
        self._suit(exported_in)
        calibrated_in = self._calibrate(frames, exported, exported_in)
        quantized_in = self._quantize(exported_in, calibrated_in)
        verified_in = self._verify(labels, exported, exported_in, calibrated_in, quantized_in)
        report = load_report(verified_in)
        plans = self._compile(report, quantized_in)
        self._progress.stage("pack", 1)
        changed = pack(self._order, exported, report, exported_in, quantized_in, verified_in, plans)
        self._progress.note(f"{self._order.out}: {'written' if changed else 'already the same'}")
        self._progress.done()
        return BuildResult(self._order.out, report, changed, tuple(self._steps.skipped), self._steps.seconds)

    def _step(self, stage: str, total: int | None, make: Callable[[Path], object], **inputs: object) -> Path:
        made_from = self._made_from
        made_from.update(inputs)
        made_from[f"{stage} code"] = code_digest(stage)
        directory = self._steps.run(stage, made_from, total, make)
        made_from[f"{stage} made"] = self._steps.made[stage]
        return directory

    def _export(self) -> Path:
        order, progress = self._order, self._progress
        graphs = graphs_for(order.targets, texts=not order.place.text_bank)
        return self._step(
            "export",
            len(graphs),
            lambda directory: export(order.place, graphs, directory, order.work / LOG, progress),
            checkpoint=order.checkpoint_digest(),
            place=order.place_facts(),
            graphs=graphs,
        )

    def _suit(self, exported_in: Path) -> None:
        """Where the recipe leaves the quantization open, take the one that suits the graph."""
        if self._order.plan.open:
            name, chosen = suited(exported_in / "image.onnx")
            plan = msgspec.structs.replace(self._order.plan, quantization=chosen)
            self._order = replace(self._order, plan=plan)
            self._progress.note(f"quantized by calibration/{name}, which suits its graph")

    def _calibrate(self, frames: Iterator[Pixels], exported: Exported, exported_in: Path) -> Path:
        order, progress = self._order, self._progress
        sampling, quantization = order.plan.sampling, order.plan.quantization
        searching = searches(quantization.search)
        return self._step(
            "calibrate",
            None,
            lambda directory: calibrate(
                frames,
                order.calibration,
                Preprocessor(exported.preprocess),
                sampling,
                None if searching else quantization.onnx,
                quantization.tflite,
                exported_in,
                directory,
                progress,
            ),
            calibration=place_digest(order.calibration),
            sampling=msgspec.to_builtins(sampling),
            observed=() if searching else quantization.onnx.multiply,
            static_frames=quantization.tflite.static_frames if "static" in quantization.tflite.schemes else 0,
        )

    def _quantize(self, exported_in: Path, calibrated_in: Path) -> Path:
        """Raises DataError for what is to run on an Edge TPU and would not."""
        budget, progress = self._order.budget_minutes, self._progress
        quantization = self._order.plan.quantization
        quantized_in = self._step(
            "quantize",
            None,
            lambda directory: quantize(exported_in, calibrated_in, quantization, budget, directory, progress),
            tflite=msgspec.to_builtins(quantization.tflite),
            onnx=msgspec.to_builtins(quantization.onnx),
            search=msgspec.to_builtins(quantization.search),
            budget=budget,
            **({"gate": quantization.gates.centred_cosine} if quantization.search.fallback else {}),
        )
        if EDGE_TPU in quantization.tflite.runtimes and (quantized_in / STATIC_FILE).exists():
            findings = examine(quantized_in / STATIC_FILE)
            require_compatible(findings)
            progress.note(findings.lines()[0])
        return quantized_in

    def _verify(
        self, labels: Sequence[Label], exported: Exported, exported_in: Path, calibrated_in: Path, quantized_in: Path
    ) -> Path:
        order, progress = self._order, self._progress
        return self._step(
            "verify",
            None,
            lambda directory: verify(
                order, exported, labels, exported_in, calibrated_in, quantized_in, directory, progress
            ),
            name=order.plan.recipe.name,
            formats=sorted({"tflite", "onnx"} & set(order.targets)),  # in which float may be the one that is kept
            gates=msgspec.to_builtins(order.plan.quantization.gates),
            data=place_digest(str(order.data)) if order.data else "",
            labels=[(label.name, label.prompts) for label in labels],
            golden=place_digest(order.golden),
            openvino=importlib.util.find_spec("openvino") is not None,
        )

    def _compile(self, report: Report, quantized_in: Path) -> list[PlanFiles]:
        aims = aims_for(self._order.targets)
        if not aims:
            return []
        compiled_in = self._step(
            "compile",
            None,
            lambda directory: compile_plans(report.kept(), aims, quantized_in, directory, self._progress),
            compilers=[(aim.library.runtime, aim.library.version, aim.archs) for aim in aims],
        )
        return load_plans(compiled_in)
