from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from scene import sight

from edgeclip.capture.canvas import Canvas, steps
from edgeclip.capture.folder import Counts, Row, Tick
from edgeclip.capture.page import coverage_page
from edgeclip.capture.plot import coverage_plot, principal_plane
from edgeclip.capture.report import verdict
from edgeclip.capture.sheet import NIGHT, contact_sheet
from edgeclip.capture.shown import HEIGHT, WIDTH, Shown


def frames(count: int, source: str = "rtsp://***@camera/1") -> list[Shown]:
    return [
        Shown.of(
            Row(f"{n + 1:06d}.png", "2026-01-01T00:00:00.000Z", source, n, n * 1.0, 99.0, 0.2 if n else None),
            sight(n),
        )
        for n in range(count)
    ]


def vectors(count: int) -> np.ndarray:  # type: ignore[type-arg]
    rows = np.random.default_rng(0).standard_normal((count, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("count", [1, 5, 64])
def test_the_sheet_shows_every_frame_once(count: int) -> None:
    sheet = contact_sheet(frames(count), list(range(count)), "site", "then").pixels
    below = sheet[84:]
    shown = int((np.abs(below.astype(int) - NIGHT).sum(axis=2) > 24).sum())
    assert shown == pytest.approx(count * 160 * 120, rel=0.12)  # captions come on top, dark pixels do not count


def test_frames_are_shown_small_and_whole() -> None:
    tall = np.zeros((1000, 300, 3), np.uint8)
    pixels = Shown.of(frames(1)[0].row, tall).pixels()
    assert pixels.shape[0] == HEIGHT
    assert pixels.shape[1] <= WIDTH


@pytest.mark.parametrize("count", [1, 2, 40])
def test_the_plot_is_drawn_whatever_there_is(count: int) -> None:
    history = [Tick(float(n), n, Counts(seen=n * 3, near=n), 0.1, 0.2, 0.05) for n in range(count)]
    full = coverage_plot(frames(count), vectors(count), range(count), history, 0.02, "site", "well").pixels
    bare = coverage_plot(frames(count), vectors(count), range(count), [], 0.02, "site", "well").pixels
    assert full.shape == bare.shape
    assert not np.array_equal(full, bare)


def test_the_plane_holds_the_greatest_variance() -> None:
    random = np.random.default_rng(1)
    rows = np.zeros((50, 6), np.float32)
    rows[:, 2], rows[:, 4] = random.standard_normal(50) * 3, random.standard_normal(50)
    plane, share = principal_plane(rows)
    assert share == pytest.approx(1.0)
    assert abs(np.corrcoef(plane[:, 0], rows[:, 2])[0, 1]) > 0.99
    assert principal_plane(rows[:1])[0].tolist() == [[0.0, 0.0]]


def test_the_page_needs_nothing_beside_it_and_escapes_what_it_shows() -> None:
    page = coverage_page("<site>", "fine", [("a & b", "1")], b"png", frames(3, source="<script>x</script>"), [2, 0, 1])
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page
    assert "&lt;site&gt;" in page
    assert page.count("<figure") == 3
    assert page.index("000003") < page.index("000001")


def test_the_verdict_follows_the_last_fifth() -> None:
    shown = frames(70)  # one a second
    assert "too few" in verdict(shown[:20], [])
    assert "covers" in verdict(shown, [Tick(500.0, 70, Counts())])
    assert "capture for longer" in verdict(shown, [Tick(70.0, 70, Counts())])


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.034), (0.0, 7.0), (0.0, 90_000.0), (2.0, 2.0)])
def test_axis_marks_are_few_and_inside(low: float, high: float) -> None:
    marks = steps(low, high)
    assert 1 <= len(marks) <= 12
    assert all(low - 1e-9 <= mark <= high + 1e-9 for mark in marks)


def test_a_drawing_is_a_png(tmp_path: Path) -> None:
    canvas = Canvas(80, 40)
    canvas.text("x", 4, 30, 20)
    (tmp_path / "a.png").write_bytes(canvas.png())
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png")), canvas.pixels)
