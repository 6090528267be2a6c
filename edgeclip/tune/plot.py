"""The picture beside the thresholds: for each watch, what its background reached, how rarely, and where the line is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeclip.capture.canvas import BLUE, GREEN, GRID, INK, ORANGE, RED, SOFT, Canvas, steps
from edgeclip.lettering import fitted
from edgeclip.tune.clusters import Values
from edgeclip.tune.promise import DAY_S, Promise, said
from edgeclip.tune.series import Series
from edgeclip.tune.threshold import Fitted, as_probability

WIDTH, PANEL, MARGIN = 1600, 430, 48
COLUMNS = 2
BINS = 60
_Place = Callable[[float], float]
MOST = 24  # watches drawn; a page of more is not looked at


@dataclass(frozen=True, slots=True)
class Drawn:
    """positives: the level of each occurrence, None where none were given."""

    name: str
    series: Series
    fitted: Fitted
    positives: Values | None


def tail_plot(drawn: Sequence[Drawn], promise: Promise, seconds: float) -> Canvas:
    """A panel for each watch, two side by side."""
    shown = drawn[:MOST]
    columns = min(COLUMNS, len(shown))
    canvas = Canvas(WIDTH, 110 + PANEL * math.ceil(len(shown) / columns))
    canvas.text(f"False alarms, held to {promise.text} for each watch", MARGIN, 50, 28)
    more = f", the first {MOST} of {len(drawn)} watches" if len(drawn) > MOST else ""
    canvas.text(f"{said(seconds)} of background footage{more}", MARGIN, 80, 17, SOFT)
    wide = (WIDTH - MARGIN) // columns - MARGIN
    for number, one in enumerate(shown):
        left = MARGIN + (number % columns) * (wide + MARGIN)
        _panel(canvas, one, promise, left, 150 + PANEL * (number // columns), wide, PANEL - 120)
    return canvas


def _panel(canvas: Canvas, one: Drawn, promise: Promise, left: int, top: int, width: int, height: int) -> None:
    """Across: the score in log-odds, named as a probability. Down: how often a day it is passed, by powers of ten."""
    fit, scores, peaks = one.fitted, one.series.scores, np.sort(one.fitted.clusters.peaks)
    low = float(np.quantile(scores, 0.001)) - 0.5
    high = max(fit.enter, float(scores.max()), *(one.positives.tolist() if one.positives is not None else ())) + 0.5
    rates = np.array([1e-2, 1.0]) * min(promise.per_day, DAY_S / one.series.seconds)
    bottom, ceiling = math.floor(math.log10(rates[0])), math.ceil(math.log10(fit.tail.per_s * DAY_S * 2.0))
    left, width = left + 60, width - 60

    def x(score: float) -> float:
        return left + (min(max(score, low), high) - low) / (high - low) * width

    def y(per_day: float) -> float:
        power = min(max(math.log10(max(per_day, 1e-12)), bottom), ceiling)
        return top + (ceiling - power) / max(ceiling - bottom, 1) * height

    canvas.text(fitted(one.name, 20, width * 0.55), left, top - 18, 20)
    kept = f"enter {as_probability(fit.enter):.4f}, likely {fit.rate[0] * DAY_S:.2g} a day"
    canvas.text(kept, left + width, top - 18, 16, SOFT, align=1)
    counts, edges = np.histogram(np.clip(scores, low, high), BINS, (low, high))
    tallest = math.log1p(counts.max())
    for count, edge in zip(counts.tolist(), edges.tolist(), strict=False):
        tall = math.log1p(count) / tallest * height
        canvas.box(x(edge) + 1, top + height - tall, width / BINS - 1, tall, GRID)
    for power in range(bottom, ceiling + 1):
        canvas.text(_often(10.0**power), left - 8, y(10.0**power) + 5, 13, SOFT, align=1)
    for score in steps(low, high, 6):
        canvas.text(f"{as_probability(score):.3g}", x(score), top + height + 22, 14, SOFT, align=0.5)
    canvas.line([(left, top + height), (left + width, top + height)], SOFT, 1)
    _curve(canvas, one, promise, x, y, high)
    for rank, peak in enumerate(peaks[::-1].tolist(), 1):
        canvas.dot(x(peak), y(rank / one.series.seconds * DAY_S), 3.0, BLUE)
    if one.positives is not None:
        for level in one.positives.tolist():
            if math.isfinite(level):
                canvas.line([(x(level), top + height - 16), (x(level), top + height)], GREEN, 1)
    canvas.dashes(left, left + width, y(promise.per_day), RED)
    canvas.line([(x(fit.enter), top), (x(fit.enter), top + height)], RED, 2)
    canvas.line([(x(fit.leave), top + height - 30), (x(fit.leave), top + height)], ORANGE, 2)
    legend = [("frames", GRID), ("peaks, a day", BLUE), ("fit", INK), ("enter, promise", RED), ("leave", ORANGE)]
    at = float(left)
    for name, colour in legend + ([("positives", GREEN)] if one.positives is not None else []):
        canvas.box(at, top + height + 36, 18, 6, colour)
        canvas.text(name, at + 24, top + height + 44, 14, SOFT)
        at += 44 + 8 * len(name)


def _curve(canvas: Canvas, one: Drawn, promise: Promise, x: _Place, y: _Place, high: float) -> None:
    """The likely rate of peaks beyond the tail's threshold, down to a tenth of the promise."""
    tail = one.fitted.tail
    rates = np.geomspace(0.9 * tail.per_s, 0.1 * min(promise.per_s, tail.per_s), 14)
    points = [(tail.level(float(rate)), float(rate)) for rate in rates]
    canvas.line([(x(level), y(rate * DAY_S)) for level, rate in points if level <= high], INK, 2)


def _often(per_day: float) -> str:
    return f"{per_day:g}" if per_day >= 0.001 else f"{per_day:.0e}"
