"""The coverage plot: where the frames lie in the embedding space, how new frames were over time, what was left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeclip.capture.canvas import BLUE, GREEN, GRID, INK, ORANGE, RED, SOFT, VIOLET, Canvas, steps
from edgeclip.capture.folder import Counts, Tick
from edgeclip.capture.shown import Shown
from edgeclip.lettering import Colour, fitted
from edgeclip.types import Embeddings

WIDTH, HEIGHT, MARGIN = 2000, 1180, 48
MAP = 1000  # side of the map
THUMB_WIDTH, THUMB_HEIGHT = 104, 78
THUMBS = 64
SMOOTH = 60  # points of a line
Box = tuple[float, float, float, float]  # left, top, width, height


def coverage_plot(
    shown: Sequence[Shown],
    embeddings: Embeddings,
    order: Sequence[int],
    history: Sequence[Tick],
    floor: float,
    title: str,
    subtitle: str,
) -> Canvas:
    """shown and embeddings [N, D] go together; order: the most different first. floor: below it, frames are one."""
    canvas = Canvas(WIDTH, HEIGHT)
    canvas.text(fitted(title, 28, WIDTH - 2 * MARGIN), MARGIN, 50, 28)
    canvas.text(fitted(subtitle, 17, WIDTH - 2 * MARGIN), MARGIN, 80, 17, SOFT)
    _map(canvas, shown, embeddings, order, (MARGIN, 136, MAP, MAP))
    left = MARGIN + MAP + 72
    _distances(canvas, shown, history, floor, (left, 136, WIDTH - MARGIN - left, 490))
    if history:
        _counts(canvas, history[-1].counts, len(shown), (left, 746, WIDTH - MARGIN - left, 390))
    return canvas


def principal_plane(embeddings: Embeddings) -> tuple[npt.NDArray[np.float64], float]:
    """[N, 2] coordinates in the plane of greatest variance, and the share of the variance that lies in it."""
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    left, strengths, _ = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(embeddings), 2))
    found = min(2, len(strengths))
    plane[:, :found] = left[:, :found] * strengths[:found]
    total = float((strengths**2).sum())
    return plane, float((strengths[:2] ** 2).sum()) / total if total > 0.0 else 1.0


def _map(canvas: Canvas, shown: Sequence[Shown], embeddings: Embeddings, order: Sequence[int], box: Box) -> None:
    plane, share = principal_plane(embeddings)
    left, top, width, height = box
    _heading(canvas, "Where the frames lie", f"two principal axes, {share:.0%} of the variance", box)
    canvas.box(left, top, width, height, (250, 248, 246))
    edge_x, edge_y = THUMB_WIDTH / 2 + 12, THUMB_HEIGHT / 2 + 12
    low, high = plane.min(axis=0), plane.max(axis=0)
    span = np.maximum(high - low, 1e-9)
    x = left + edge_x + (plane[:, 0] - low[0]) / span[0] * (width - 2 * edge_x)
    y = top + height - edge_y - (plane[:, 1] - low[1]) / span[1] * (height - 2 * edge_y)
    taken: list[int] = []
    for index in order:
        if len(taken) < THUMBS and all(
            abs(x[index] - x[other]) > THUMB_WIDTH + 8 or abs(y[index] - y[other]) > THUMB_HEIGHT + 8 for other in taken
        ):
            taken.append(index)
    for index in range(len(shown)):
        canvas.dot(x[index], y[index], 4.0, BLUE)
    for index in taken:
        picture = shown[index].pixels()
        scale = min(THUMB_WIDTH / picture.shape[1], THUMB_HEIGHT / picture.shape[0])
        wide, tall = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
        at_x, at_y = round(x[index] - wide / 2), round(y[index] - tall / 2)
        canvas.box(at_x - 2, at_y - 2, wide + 4, tall + 4, BLUE)
        canvas.picture(picture, at_x, at_y, wide, tall)


def _distances(canvas: Canvas, shown: Sequence[Shown], history: Sequence[Tick], floor: float, box: Box) -> None:
    left, top, width, height = box
    _heading(canvas, "How new frames were when they came", "distance to the nearest frame kept until then", box)
    kept = [(frame.row.seconds, frame.row.distance) for frame in shown if frame.row.distance is not None]
    usual = _smooth([(tick.seconds, tick.novelty) for tick in history if tick.novelty is not None])
    closest = [(tick.seconds, tick.closest) for tick in history if tick.closest is not None]
    last_s = max([tick.seconds for tick in history] + [seconds for seconds, _ in kept] + [1e-3])
    most = max([distance for _, distance in kept] + [novelty for _, novelty in usual] + [floor, 1e-3]) * 1.06
    left, width, height = left + 64, width - 64, height - 40

    def at(seconds: float, distance: float) -> tuple[float, float]:
        return left + seconds / last_s * width, top + height - distance / most * height

    for distance in steps(0.0, most):
        y = at(0.0, distance)[1]
        canvas.line([(left, y), (left + width, y)], GRID, 1)
        canvas.text(f"{distance:g}", left - 12, y + 6, 16, SOFT, align=1)
    unit, length_s = ("h", 3600) if last_s >= 7200 else ("min", 60) if last_s >= 120 else ("s", 1)
    for mark in steps(0.0, last_s / length_s):
        canvas.text(f"{mark:g} {unit}", at(mark * length_s, 0.0)[0], top + height + 26, 16, SOFT, align=0.5)
    canvas.dashes(left, left + width, at(0.0, floor)[1], SOFT)
    for seconds, distance in kept:
        canvas.dot(*at(seconds, distance), 3.5, BLUE)
    for points, colour in ((usual, ORANGE), (closest, GREEN)):
        if len(points) > 1:
            canvas.line([at(*point) for point in points], colour, 3)
    legend = (("kept", BLUE), ("all usable frames, median", ORANGE), ("closest pair kept", GREEN), ("noise", SOFT))
    x = left
    for name, colour in legend:
        canvas.box(x, top + height + 44, 22, 6, colour)
        canvas.text(name, x + 30, top + height + 53, 16, SOFT)
        x += 62 + 9 * len(name)


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Medians of at most SMOOTH runs of neighbours."""
    runs = np.array_split(np.array(points, np.float64).reshape(-1, 2), min(SMOOTH, max(len(points), 1)))
    return [(float(run[:, 0].mean()), float(np.median(run[:, 1]))) for run in runs if len(run)]


def _counts(canvas: Canvas, counts: Counts, kept: int, box: Box) -> None:
    _heading(canvas, "What became of them", f"{counts.seen:,} frames looked at", box)
    bars: list[tuple[str, int, Colour]] = [
        ("kept", kept, BLUE),
        ("replaced later", counts.replaced, GREEN),
        ("redundant", counts.redundant, ORANGE),
        ("near-duplicates", counts.near, ORANGE),
        ("blurred", counts.blurred, RED),
        ("dark", counts.dark, INK),
        ("blank", counts.blank, VIOLET),
    ]
    left, top, width, height = box
    pitch = height / len(bars)
    most = max(max(count for _, count, _ in bars), 1)
    start, room = left + 180, width - 180 - 110
    for number, (name, count, colour) in enumerate(bars):
        middle = top + (number + 0.5) * pitch
        canvas.text(name, start - 14, middle + 6, 18, INK, align=1)
        canvas.box(start, middle - 13, room, 26, (247, 244, 242))
        if count:
            canvas.box(start, middle - 13, max(3.0, count / most * room), 26, colour)
        canvas.text(f"{count:,}", start + room + 12, middle + 6, 18, SOFT)


def _heading(canvas: Canvas, title: str, detail: str, box: Box) -> None:
    left, top, width, _ = box
    canvas.text(title, left, top - 18, 20)
    canvas.text(detail, left + width, top - 18, 15, SOFT, align=1)
