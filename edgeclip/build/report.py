"""What verify measured, as data (report.json) and for people (report.md); and which figures a bundle may not have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgeclip.build.findings import Findings
from edgeclip.build.measure import Distance
from edgeclip.build.quantize import DYNAMIC, ON_OPENVINO, QDQ, STATIC, WEIGHTS
from edgeclip.build.recipe import Gates
from edgeclip.describe import packed_name
from edgeclip.errors import DataError
from edgeclip.turns import TIE

FLOAT = "float32"
EDGE_TPU = "edgetpu"
SENSITIVITY = "sensitivity.png"
RULE = (
    "the fastest engine that runs where the recipe says and reaches the gates, float among them; within 2 % the more "
    "accurate; and the Q/DQ ONNX, which devices compile from, on OpenVINO too where that is the fastest of all"
)


class Candidate(msgspec.Struct, frozen=True, omit_defaults=True):
    """One engine file as measured.

    speedup: float latency of the same format / its own. agreement: percent of frames with float's best label.
    top1, top5: percent. top1_drop: points below float; top1_drop_error: its standard error. refused: why it cannot
    be kept, or "".
    """

    file: str
    precision: str
    bytes: int
    latency_ms: float
    speedup: float
    distance: Distance
    agreement: float | None = None
    top1: float | None = None
    top5: float | None = None
    top1_drop: float | None = None
    top1_drop_error: float | None = None
    refused: str = ""
    kept: bool = False

    @property
    def packed(self) -> str:
        """Its name in a bundle."""
        return packed_name(self.file, self.precision)

    @property
    def shown(self) -> str:
        """Its name for people: that in the bundle, where it is kept."""
        return self.packed if self.kept else self.file


class FloatFigures(msgspec.Struct, frozen=True, omit_defaults=True):
    """The float image graphs, for comparison, by format."""

    latency_ms: dict[str, float]
    bytes: dict[str, int]
    top1: float | None = None
    top5: float | None = None


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """report.json. frames: how many pictures were compared; origin: where they came from. overlap: how many of labelled
    pictures were calibrated on, too.

    export_cosine: of the float graphs to torch; original_cosine: to the checkpoint's own library. provenance: of the
    weights, and what was done to them on the way in.
    """

    name: str
    space: str
    created: str
    machine: str
    frames: int
    origin: str
    labels: int
    gates: Gates
    floating: FloatFigures
    images: list[Candidate]
    texts: list[Candidate]
    export_cosine: dict[str, float]
    calibration: dict[str, Any]
    parity: dict[str, Any]
    overlap: int = 0
    rule: str = RULE
    original_cosine: dict[str, float] = {}
    provenance: tuple[str, ...] = ()
    search: Findings | None = None

    def kept(self) -> list[Candidate]:
        """In the bundle's order, the first of which that it can run a runtime takes: image engines before texts', then
        OpenVINO where it is kept, TFLite, ONNX."""
        found = [candidate for candidate in (*self.images, *self.texts) if candidate.kept]
        return sorted(
            found,
            key=lambda c: (
                not c.file.startswith("image"),
                c.precision != ON_OPENVINO,
                c.file.endswith(".onnx"),
                c.precision != FLOAT,
            ),
        )


def give_or_take(candidate: Candidate) -> str:
    """The drop of top-1 with its standard error: "0.31 ± 0.38". Few labelled pictures tell little."""
    error = candidate.top1_drop_error
    return f"{candidate.top1_drop or 0.0:.2f}" + ("" if error is None else f" ± {error:.2f}")


def judge(candidate: Candidate, gates: Gates, runtimes: Sequence[str]) -> Candidate:
    """The candidate with every reason why it cannot be kept, if there is one."""
    reasons: list[str] = []
    centred, drop = candidate.distance.centred.mean, candidate.top1_drop
    if candidate.distance.cosine.min <= -1.0:
        reasons.append("its output is not finite")
    elif not centred >= gates.centred_cosine:
        reasons.append(f"mean-centred cosine {centred:.4f} is below {gates.centred_cosine}")
    if drop is not None and not drop <= gates.top1_drop:
        reasons.append(f"top-1 drops by {give_or_take(candidate)} points, more than {gates.top1_drop}")
    if candidate.precision == DYNAMIC and "tflite-runtime" in runtimes:
        reasons.append("runs on LiteRT alone: tflite-runtime computes dynamic-range wrongly")
    image_tflite = candidate.file.startswith("image") and candidate.file.endswith(".tflite")
    if EDGE_TPU in runtimes and image_tflite and candidate.precision != STATIC:
        reasons.append("an Edge TPU takes static INT8 alone")
    return msgspec.structs.replace(candidate, refused="; ".join(reasons))


def choose(candidates: Sequence[Candidate]) -> Candidate | None:
    """By RULE; None where all are refused."""
    passing = [candidate for candidate in candidates if not candidate.refused]
    if not passing:
        return None
    fastest = min(candidate.latency_ms for candidate in passing)
    tied = [candidate for candidate in passing if candidate.latency_ms <= TIE * fastest]
    return max(tied, key=lambda candidate: candidate.distance.centred.mean)


def keep(candidates: Sequence[Candidate], targets: Sequence[str]) -> list[Candidate]:
    """The candidates, of which every format's chosen one is marked, and the Q/DQ ONNX.

    Float is chosen where INT8 passes and is slower here, and the format is one that was asked for; where INT8 does not
    pass, nothing is. OpenVINO is added where it is faster than all that are chosen.
    """
    chosen: set[str] = set()
    for form in {candidate.file.rsplit(".", 1)[1] for candidate in candidates}:
        some = [c for c in candidates if c.file.endswith(form) and c.precision != ON_OPENVINO]
        passing = [candidate for candidate in some if candidate.precision != FLOAT and not candidate.refused]
        best = choose(some if form in targets else passing) if passing else None
        if best is not None:
            chosen.add(best.file)
            chosen.update(candidate.file for candidate in passing if candidate.precision == QDQ)
    fastest = min((candidate.latency_ms for candidate in candidates if candidate.file in chosen), default=0.0)
    chosen.update(
        c.file for c in candidates if c.precision == ON_OPENVINO and not c.refused and c.latency_ms * TIE < fastest
    )
    return [msgspec.structs.replace(candidate, kept=candidate.file in chosen) for candidate in candidates]


def require(report: Report) -> None:
    """Raises DataError with the figures where a role and format has no engine that reaches the gates."""
    missing: list[str] = []
    for role in (report.images, report.texts):
        for form in sorted({candidate.file.rsplit(".", 1)[1] for candidate in role}):
            some = [c for c in role if c.file.endswith(form) and c.precision not in (FLOAT, ON_OPENVINO)]
            if all(candidate.refused for candidate in some):
                missing += [f"{candidate.file} ({candidate.precision}): {candidate.refused}" for candidate in some]
    parity = report.parity.get("cosine_p1")
    grey = report.parity.get("mae_p99", 255.0)
    if parity is not None and not parity >= report.gates.parity_cosine and not grey <= report.gates.parity_grey:
        missing.append(
            f"preprocessing parity cosine {parity:.4f} is below {report.gates.parity_cosine}, and one picture of a "
            f"hundred is {grey:.2f} grey levels from Pillow's, more than {report.gates.parity_grey}"
        )
    if missing:
        raise DataError(
            f"{report.name} does not reach its gates, and no bundle was written: " + "; ".join(missing),
            f"{more_time(report)}calibrate with more varied frames of what the camera sees; the gates are in the "
            "quantization recipe",
        )


def more_time(report: Report) -> str:
    """What to do first, where the search's time was up."""
    if report.search is None or not report.search.out_of_time:
        return ""
    return f"the search's time ended before {report.search.out_of_time}: give it more, --budget MINUTES; or "


def load_report(directory: Path) -> Report:
    return msgspec.json.decode((directory / "report.json").read_bytes(), type=Report)


def verdict(candidate: Candidate) -> str:
    if candidate.kept and candidate.precision == WEIGHTS:
        return "kept: smaller, and computes in float"
    if candidate.kept or candidate.refused:
        return candidate.refused or (
            "kept" if candidate.speedup >= 1.0 / TIE else "kept, though not faster than float here"
        )
    if candidate.precision != FLOAT and candidate.speedup <= 1.0:
        return "not faster than float on this machine, and not chosen"
    return "passes, another one is kept"
