from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgeclip.train.curves import draw_curves


def row(phase: str, loss: float, top1: float) -> dict[str, Any]:
    return {"phase": phase, "epoch": 1, "loss": loss, "top1": top1, "top5": top1 + 0.1, "r1": top1 / 2, "r5": top1}


HISTORY = [row("words", 3.0, 0.1), row("words", 2.0, 0.2), row("pictures", 1.0, 0.7), row("pictures", 0.5, 0.8)]


def drawn(history: list[dict[str, Any]], folder: Path) -> np.ndarray:
    path = folder / "curves.png"
    draw_curves(history, path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert list(folder.iterdir()) == [path]
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture)


def test_the_curves_are_drawn(tmp_path: Path) -> None:
    picture = drawn(HISTORY, tmp_path)
    assert picture.shape == (396, 990, 3)
    assert (picture == 255).all(2).mean() > 0.7  # a white ground
    for half in (picture[:, :495], picture[:, 495:]):
        coloured = np.ptp(half.astype(int), axis=2) > 60
        assert coloured.sum() > 200
    _, right = np.split(picture, [495], axis=1)
    hues = cv2.cvtColor(right, cv2.COLOR_BGR2HSV)[np.ptp(right.astype(int), axis=2) > 100][:, 0]
    assert len({int(hue) // 10 for hue in hues}) >= 3  # top-1, top-5, R@1


def test_they_show_the_figures(tmp_path: Path) -> None:
    first = drawn(HISTORY, tmp_path)
    np.testing.assert_array_equal(drawn(HISTORY, tmp_path), first)
    better = [*HISTORY[:3], row("pictures", 0.5, 0.3)]
    changed = (drawn(better, tmp_path) != first).any(2)
    assert changed[:, 495:].sum() > 50  # the dev figures' half
    assert changed[:, :495].sum() == 0  # the loss did not change


def test_a_single_epoch_is_enough(tmp_path: Path) -> None:
    drawn(HISTORY[:1], tmp_path)
