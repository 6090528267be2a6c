"""The gates of a report one by one: what was asked, what was measured, how near that is to missing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeclip.build.quantize import ON_OPENVINO
from edgeclip.build.recipe import Gates
from edgeclip.build.report import FLOAT, Candidate, Report, give_or_take

NEAR = 0.75  # of what a gate allows to be lost; more is narrow
MISSED, NARROW, REACHED, OPEN = "missed", "reached narrowly", "reached", "not measured"
USUAL = Gates()


@dataclass(frozen=True)
class Held:
    """One gate. looser: what it would be if the recipe had not made it weaker, or ""."""

    gate: str
    asked: str
    measured: str
    state: str
    looser: str = ""


def held(report: Report) -> list[Held]:
    """Of every engine that is kept, the one nearest to missing each gate; of a format without one, its best."""
    gates = report.gates
    found = [
        cosine_gate(f"mean-centred cosine to float, {role}", decisive(some), gates)
        for role, some in (("image", report.images), ("text", report.texts))
        if decisive(some)
    ]
    return [*found, accuracy_gate(report, gates), parity_gate(report, gates)]


def decisive(candidates: Sequence[Candidate]) -> list[Candidate]:
    """INT8 engines that a bundle would hold: the kept ones, and of a format where all were refused, the best. What
    OpenVINO alone computes right does not stand for its format."""
    int8 = [candidate for candidate in candidates if candidate.precision not in (FLOAT, ON_OPENVINO)]
    found = [candidate for candidate in candidates if candidate.precision == ON_OPENVINO and candidate.kept]
    for form in {candidate.file.rsplit(".", 1)[1] for candidate in int8}:
        some = [candidate for candidate in int8 if candidate.file.endswith(f".{form}")]
        found += [one for one in some if one.kept] or [max(some, key=lambda one: one.distance.centred.mean)]
    return found


def cosine_gate(name: str, engines: Sequence[Candidate], gates: Gates) -> Held:
    worst = min(engines, key=lambda one: one.distance.centred.mean)
    reached, asked = worst.distance.centred.mean, gates.centred_cosine
    state = MISSED if not reached >= asked else state_of(1.0 - reached, 1.0 - asked)
    looser = f"{USUAL.centred_cosine}" if asked < USUAL.centred_cosine else ""
    return Held(name, f"at least {asked}", f"{reached:.4f} ({worst.shown})", state, looser)


def accuracy_gate(report: Report, gates: Gates) -> Held:
    looser = f"{USUAL.top1_drop}" if gates.top1_drop > USUAL.top1_drop else ""
    asked = f"at most {gates.top1_drop} points below float"
    measured = [one for one in decisive(report.images) if one.top1_drop is not None]
    if not measured:
        return Held("top-1 accuracy", asked, "no labelled pictures were given", OPEN, looser)
    worst = max(measured, key=lambda one: one.top1_drop or 0.0)
    drop = worst.top1_drop or 0.0
    state = MISSED if not drop <= gates.top1_drop else state_of(drop, gates.top1_drop)
    beside = f"{worst.top1 or 0.0:.1f} % ({worst.shown}), float {report.floating.top1 or 0.0:.1f} %"
    shown = f"{give_or_take(worst)} points: {beside}"
    return Held("top-1 accuracy", asked, shown, state, looser)


def parity_gate(report: Report, gates: Gates) -> Held:
    """The cosine does not count where 99 pictures of a hundred are no more than rounding away from Pillow's."""
    name, asked = "preprocessing, cosine to Pillow's resize, 1st percentile", f"at least {gates.parity_cosine}"
    looser = ", ".join(
        usual
        for usual, weaker in (
            (f"{USUAL.parity_cosine}", gates.parity_cosine < USUAL.parity_cosine),
            (f"{USUAL.parity_grey} grey levels", gates.parity_grey > USUAL.parity_grey),
        )
        if weaker
    )
    cosine, grey = report.parity.get("cosine_p1"), report.parity.get("mae_p99")
    if cosine is None:
        return Held(name, asked, "", OPEN, looser)
    if cosine >= gates.parity_cosine:
        return Held(name, asked, f"{cosine:.4f}", state_of(1.0 - cosine, 1.0 - gates.parity_cosine), looser)
    if grey is not None and grey <= gates.parity_grey:
        state = f"let pass: 99 % of pictures are within {gates.parity_grey} grey levels of Pillow's, which is rounding"
        return Held(name, asked, f"{cosine:.4f}; {grey:.2f} grey levels, 99th percentile", state, looser)
    return Held(name, asked, f"{cosine:.4f}" + ("" if grey is None else f"; {grey:.2f} grey levels"), MISSED, looser)


def state_of(lost: float, allowed: float) -> str:
    return NARROW if lost > NEAR * allowed else REACHED
