"""Frames and decisions for sink tests."""

from __future__ import annotations

import io
from typing import IO

import numpy as np

from edgeclip.runtime.sinks.setting import Setting
from edgeclip.types import Decision, Frame


def frame(index: int = 0, captured_ns: int = 1_000_000_000, height: int = 120, width: int = 160) -> Frame:
    pixels = np.full((height, width, 3), 10 * index % 256, np.uint8)
    return Frame(pixels, index, captured_ns, 1_785_585_600_123_456_789, "demo")


def decision(of: Frame, scores: dict[str, float] | None = None, top: int = 5) -> Decision:
    scores = scores or {"cat": 0.9, "dog": 0.1}
    values = np.array(list(scores.values()), np.float32)
    order = tuple(np.argsort(-values)[:top].tolist())
    return Decision(of.index, of.source, of.captured_ns, of.wall_ns, 41_000_000, tuple(scores), values, order, 3, 19.8)


def setting(stdout: IO[str] | None = None, *, fps: float | None = 10.0, live: bool = False) -> Setting:
    return Setting(stdout or io.StringIO(), "nano", "LiteRT", fps, live)
