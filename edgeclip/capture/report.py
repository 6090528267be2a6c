"""What a captured set looks like: a contact sheet, a coverage plot, and both with every figure as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeclip.atomic import atomic_write
from edgeclip.capture.collector import Collector
from edgeclip.capture.diversity import farthest_first
from edgeclip.capture.folder import Tick
from edgeclip.capture.page import coverage_page
from edgeclip.capture.plot import coverage_plot
from edgeclip.capture.sheet import contact_sheet
from edgeclip.capture.shown import Shown
from edgeclip.progress import duration

SHEET, PLOT, PAGE = "contact-sheet.png", "coverage.png", "coverage.html"
BUILD_MINIMUM = 64  # distinct frames that `edgeclip build` asks for
LATE, FEW = 0.2, 0.05  # where the last fifth of the time brought less than a twentieth of the frames, it is enough


def write_reports(directory: Path, history: Sequence[Tick], collector: Collector) -> None:
    """contact-sheet.png, coverage.png and coverage.html, each replaced at once."""
    shown, embeddings = collector.shown, collector.pool.embeddings
    order = farthest_first(embeddings)
    title = f"{directory.resolve().name}: {len(shown)} frames"
    first, last = min(frame.row.time for frame in shown), max(frame.row.time for frame in shown)
    seconds = history[-1].seconds if history else 0.0
    subtitle = f"{first[:16].replace('T', ' ')} to {last[:16].replace('T', ' ')} UTC, " + ", ".join(
        sorted({frame.row.source for frame in shown})
    )
    conclusion = verdict(shown, history)
    sheet = contact_sheet(shown, order, title, f"{subtitle}; the most different first")
    plot = coverage_plot(shown, embeddings, order, history, collector.pool.floor, title, conclusion).png()
    counts = collector.counts
    figures = [
        ("frames kept", f"{len(shown):,}"),
        ("looked at", f"{counts.seen:,}"),
        ("captured for", duration(seconds)),
        ("closest pair", _distance(collector.closest)),
        ("nearest neighbour, median", _distance(collector.neighbour)),
        ("the last ones, when they came", _distance(collector.latest)),
        ("told from noise above", f"{collector.pool.floor:.3f}"),
        ("near-duplicates", f"{counts.near:,}"),
        ("redundant", f"{counts.redundant:,}"),
        ("blurred", f"{counts.blurred:,}"),
        ("dark or blank", f"{counts.dark + counts.blank:,}"),
        ("replaced later", f"{counts.replaced:,}"),
    ]
    page = coverage_page(title, f"{conclusion} {subtitle}.", figures, plot, shown, order)
    for name, content in ((SHEET, sheet.png()), (PLOT, plot), (PAGE, page.encode())):
        with atomic_write(directory / name) as stream:
            stream.write(content)


def verdict(shown: Sequence[Shown], history: Sequence[Tick]) -> str:
    """What the figures say, in a sentence or two."""
    if len(shown) < BUILD_MINIMUM:
        return f"{len(shown)} frames are too few: `edgeclip build` asks for {BUILD_MINIMUM}. Capture for longer."
    seconds = history[-1].seconds if history else 0.0
    late = sum(frame.row.seconds >= (1.0 - LATE) * seconds for frame in shown)
    if late <= FEW * len(shown):
        return (
            "The last fifth of the time brought little that is new: the set covers what this camera has shown so far."
        )
    return f"The last fifth of the time brought {late} of the frames: capture for longer, or at other times of day."


def _distance(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
