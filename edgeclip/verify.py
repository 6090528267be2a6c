"""`edgeclip verify`: does a bundle, on this machine, still do what its builder measured? Needs no torch.

Every image engine that runs here must pass the self-test on the golden frames; accuracy on labelled
pictures is held against the float figure of report.json, where both are of the same pictures and labels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgeclip.bundle import Bundle
from edgeclip.describe import packed_name, report
from edgeclip.evaluate import evaluate
from edgeclip.progress import Progress, Silent
from edgeclip.runtime.backends import candidates
from edgeclip.trial import try_engine
from edgeclip.types import Label

TOP1_DROP = 0.5  # percentage points, where the bundle's recipe states no gate of its own


class EngineVerdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """One engine file on one runtime. centred: mean-centred cosine to float, None where the self-test failed."""

    file: str
    runtime: str
    centred: float | None = None
    failed: str = ""


class Accuracy(msgspec.Struct, frozen=True):
    """Percent."""

    top1: float
    top5: float


class Spread(msgspec.Struct, frozen=True):
    """Of the cosines of `frames` frames; p1 is the first percentile."""

    mean: float
    p1: float
    min: float
    frames: int
    of: str


class Verdict(msgspec.Struct, frozen=True, rename={"floating": "float"}):
    """passed: at least one engine ran, and nothing is in `failed`.

    int8: of the engine that runs here, measured now. floating ("float" in JSON): of the float model, as the builder
    measured it on the same pictures and labels. cosine_centred: of that engine to float, mean-centred, as the builder
    measured it.
    """

    bundle: str
    passed: bool
    failed: tuple[str, ...]
    engines: tuple[EngineVerdict, ...]
    n: int
    int8: Accuracy | None
    floating: Accuracy | None
    cosine_centred: Spread | None
    top1_drop_gate: float


def verify_bundle(
    bundle: Bundle,
    data: str | os.PathLike[str] | None = None,
    labels: Sequence[Label] | None = None,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Verdict:
    """Run every image engine, and the data set with the first one. Raises EdgeclipError for what cannot be read."""
    progress = progress or Silent()
    gates = bundle.manifest.recipe.get("quantization", {}).get("gates", {})
    drop_gate = float(gates.get("top1_drop", TOP1_DROP))
    progress.stage("golden frames")
    engines = _engines(bundle)
    progress.done()
    failed = [f"{verdict.file} on {verdict.runtime}: {verdict.failed}" for verdict in engines if verdict.failed]
    if all(verdict.centred is None for verdict in engines):
        failed.append("no image engine runs here")
    int8 = floating = None
    measured = report(bundle)
    n = 0
    if data is not None and any(verdict.centred is not None for verdict in engines):
        result = evaluate(bundle, data, labels, threads=threads, progress=progress)
        n = result.n
        if result.top1 is not None and result.top5 is not None:
            int8 = Accuracy(100 * result.top1, 100 * result.top5)
            floating = _float_accuracy(measured, Path(data).name, n + result.skipped, result.labels)
            if floating is not None and floating.top1 - int8.top1 > drop_gate:
                failed.append(
                    f"top-1 is {int8.top1:.2f} %, float {floating.top1:.2f} %: more than {drop_gate} points below"
                )
    return Verdict(
        bundle=bundle.manifest.name,
        passed=not failed,
        failed=tuple(failed),
        engines=tuple(engines),
        n=n,
        int8=int8,
        floating=floating,
        cosine_centred=_spread(measured, next((one.file for one in engines if one.centred is not None), "")),
        top1_drop_gate=drop_gate,
    )


def _engines(bundle: Bundle) -> list[EngineVerdict]:
    """Those whose runtime is installed, and plans for this GPU; each runs in a process of its own."""
    trials = [
        (entry, backend, try_engine(bundle, entry, backend))
        for entry in bundle.engines("image")
        for backend in candidates(entry)[0]
    ]
    return [
        EngineVerdict(entry.file, trial.runtime or backend.name, trial.centred, trial.error)
        for entry, backend, trial in trials
        if not (trial.missing or trial.elsewhere)
    ]


def _float_accuracy(measured: dict[str, Any] | None, data: str, pictures: int, labels: int) -> Accuracy | None:
    """The float model's, where the report is of the same data and labels."""
    if measured is None or not str(measured.get("origin", "")).endswith(data):
        return None
    if (measured.get("frames"), measured.get("labels")) != (pictures, labels):
        return None
    floating = measured.get("floating", {})
    return Accuracy(floating["top1"], floating["top5"]) if "top1" in floating and "top5" in floating else None


def _spread(measured: dict[str, Any] | None, file: str) -> Spread | None:
    """From the report's candidate that became `file`."""
    for candidate in (measured or {}).get("images", ()):
        same = packed_name(candidate.get("file", ""), candidate.get("precision", "")) == file
        if candidate.get("kept") and same and measured is not None:
            return Spread(**candidate["distance"]["centred"], frames=measured["frames"], of=measured["origin"])
    return None
