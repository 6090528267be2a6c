"""report.md: what verify measured, for people. The verdict first, then gates, engines, where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgeclip.build.findings import SENSITIVITY_FRAMES, Findings
from edgeclip.build.gates import MISSED, NARROW, OPEN, held
from edgeclip.build.measure import Spread
from edgeclip.build.report import FLOAT, SENSITIVITY, Candidate, Report, verdict

LIBRARIES = {"tflite": "LiteRT", "onnx": "ONNX Runtime"}  # what float was measured on
AGREES = " `agrees`: how many may be expected to keep float's best label, by its lead and by how much scores move."
SHORT = 19  # of a digest: "sha256:" and twelve digits; all of it is in report.json


def write_report(report: Report, directory: Path) -> None:
    """report.json and report.md."""
    (directory / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    (directory / "report.md").write_text(as_markdown(report), encoding="utf-8")


def as_markdown(report: Report) -> str:
    lines = [
        f"# {report.name}: what verify measured",
        "",
        conclusion(report),
        "",
        f"{report.frames} frames ({report.origin}), {report.labels or 'no'} labels. {report.machine}, 1 thread, "
        f"{report.created}.",
        "",
        "## Gates",
        "",
        *gate_lines(report),
        "",
        "## Engines",
        "",
        *engine_lines(report),
        "",
        f"In bold what {'would be' if refused(report) else 'is'} kept: {report.rule}.",
        "",
        "Cosines are to the float engine's embeddings after their mean is subtracted: mean / 1st percentile / least.",
        "",
        "## Where it comes from",
        "",
        *source_lines(report),
    ]
    if report.search is not None and report.search.trials:
        lines += ["", "## What each remedy gave", "", *search_lines(report.search)]
    if report.search is not None and report.search.sensitivity:
        lines += ["", "## What each layer costs", "", f"![sensitivity]({SENSITIVITY})"]
    return "\n".join(lines) + "\n"


def conclusion(report: Report) -> str:
    """Whether it passes, how narrowly, and what `run` will take."""
    gates = held(report)
    search = report.search
    ended = [f"**The search's budget ended before: {search.out_of_time}.**"] if search and search.out_of_time else []
    if refused(report):
        return " ".join(["**Refused: a gate is missed, and no bundle was written.**", *ended])
    kept = [candidate for candidate in report.kept() if candidate in report.images]
    open_, narrow = ([gate.gate for gate in gates if gate.state == state] for state in (OPEN, NARROW))
    said = [f"**Every gate {'that was measured ' if open_ else ''}is reached{', narrowly' if narrow else ''}.**"]
    said += [f"Not measured: {', '.join(open_)}."] if open_ else []
    said.append(taken(kept[0], report))
    if report.overlap:
        said.append(f"**{report.overlap} of the {report.frames} pictures measured on were calibrated on, too.**")
    if search is not None and search.floating:
        sites = f"{len(search.floating)} site{'s' * (len(search.floating) > 1)}"
        said.append(f"Left in float is {sites}: {search.int8_weights:.0f} % of the weights are INT8.")
    return " ".join([*said, *ended])


def refused(report: Report) -> bool:
    """Whether no bundle is written: a gate is missed, or no image engine is kept."""
    return any(gate.state == MISSED for gate in held(report)) or not any(one.kept for one in report.images)


def taken(first: Candidate, report: Report) -> str:
    """What `run` takes, beside float."""
    form = first.file.rsplit(".", 1)[1]
    said = f"`run` takes {first.shown} ({first.precision}): {first.latency_ms:.2f} ms a frame, {_mb(first.bytes)} MB"
    if first.precision == FLOAT:
        return f"{said}. INT8 is not faster than that on this machine."
    if form in report.floating.latency_ms:
        said += (
            f"; {LIBRARIES[form]}'s float takes {report.floating.latency_ms[form]:.2f} ms, {first.speedup:.1f} times "
            f"as long, and {_mb(report.floating.bytes[form])} MB"
        )
    return f"{said}."


def gate_lines(report: Report) -> list[str]:
    found = held(report)
    lines = ["| gate | asked | measured | |", "|---|---|---|---|"]
    for gate in found:
        state = f"**{gate.state}**" if gate.state in (MISSED, NARROW) else gate.state
        asked = f"{gate.asked}, **looser than the usual {gate.looser}**" if gate.looser else gate.asked
        lines.append(f"| {gate.gate} | {asked} | {gate.measured} | {state} |")
    return lines


def engine_lines(report: Report) -> list[str]:
    """A row an engine, kept ones first, in the bundle's order. Columns that need labels only where there are any."""
    kept = report.kept()
    ordered = [*kept, *(one for one in (*report.images, *report.texts) if one not in kept)]
    cells = {
        "engine": [f"**{one.shown}**" if one.kept else one.shown for one in ordered],
        "precision": [one.precision for one in ordered],
        "MB": [_mb(one.bytes) for one in ordered],
        "ms": [f"{one.latency_ms:.2f}" for one in ordered],
        "x float": [f"{one.speedup:.2f}" for one in ordered],
        "centred cosine": [spread(one.distance.centred) for one in ordered],
        "float's best label": [_percent(one.agreement) for one in ordered],
        "top-1": [_percent(one.top1) for one in ordered],
        "top-5": [_percent(one.top5) for one in ordered],
        "": [verdict(one) for one in ordered],
    }
    return table(cells)


def table(columns: dict[str, list[str]]) -> list[str]:
    """By title; those in which nothing stands are left out."""
    shown = {title: column for title, column in columns.items() if any(column)}
    lines = [f"| {' | '.join(shown)} |", "|---" * len(shown) + "|"]
    return lines + [f"| {' | '.join(row)} |" for row in zip(*shown.values(), strict=True)]


def source_lines(report: Report) -> list[str]:
    found = report.calibration
    left_out = f"{found.get('near')} nearly identical, {found.get('identical')} identical, {found.get('blank')} blank"
    parity = report.parity
    lines = [f"- {line}." for line in report.provenance]
    if found:
        lines.append(
            f"- Calibrated on {found.get('frames')} frames of {found.get('place')}, {found.get('held_out')} held out; "
            f"of {found.get('seen')} looked at, left out were {left_out}. Digest `{str(found.get('digest'))[:SHORT]}`."
        )
    if "mae" in parity:
        lines.append(
            f"- Preprocessing against Pillow's antialiased resize, {parity['pictures']:.0f} pictures: "
            f"{parity['mae']:.2f} grey levels apart, {parity['mae_max']:.2f} on the worst one"
            + (f"; embeddings' cosine at least {parity['cosine_min']:.5f}." if "cosine_min" in parity else ".")
        )
    for cosines, whose in ((report.export_cosine, "torch"), (report.original_cosine, "the checkpoint's own library")):
        if cosines:
            lines.append(f"- Lowest cosine of the float graphs to {whose}: {_pairs(cosines)}.")
    return [*lines, f"- Embedding space `{report.space[:SHORT]}`."]


def search_lines(found: Findings) -> list[str]:
    """The search's table."""
    lines = [
        f"Centred cosine to float over {found.frames} frames of the calibration set, one remedy on top of the other."
        + AGREES * any(trial.agrees is not None for trial in found.trials),
    ]
    for form, trials in (("Q/DQ ONNX", found.trials), ("TFLite, dynamic-range", found.dynamic)):
        if trials:
            cells = {
                form: [trial.remedy for trial in trials],
                "centred cosine mean / p1": [f"{trial.centred:.4f} / {trial.p1:.4f}" for trial in trials],
                "agrees": [_percent(trial.agrees) for trial in trials],
                "": ["kept" if trial.kept else "not kept" for trial in trials],
                "after s": [f"{trial.seconds:.0f}" for trial in trials],
            }
            lines += ["", *table(cells)]
    left = ", ".join(found.floating) or "nothing"
    lines += ["", f"- Left float: {left}. INT8 are {found.int8_weights:.1f} % of the Q/DQ ONNX's weights."]
    if found.sensitivity:
        lines.append(f"- What each layer costs is of it alone in INT8, over {SENSITIVITY_FRAMES} frames.")
    if found.unmatched:
        lines.append(f"- {found.unmatched}.")
    return lines


def spread(cosines: Spread) -> str:
    return f"{cosines.mean:.4f} / {cosines.p1:.4f} / {cosines.min:.4f}"


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} %"


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value:.6f}" for key, value in values.items())
