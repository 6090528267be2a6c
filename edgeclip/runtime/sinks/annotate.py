"""Draw a decision into a picture: regions, and a panel with one bar per watch and label, sized to the picture."""

from __future__ import annotations

import cv2
import numpy as np

from edgeclip.lettering import Colour, fitted, fitted_end, text_width, write
from edgeclip.runtime.sinks.jsonl import utc
from edgeclip.types import UNKNOWN, Decision, Pixels

MIN_SIDE = 360  # smaller pictures are enlarged, or nothing on them could be read...
MAX_SIDE = 1920  # ...but never beyond this
BACKGROUND: Colour = (28, 22, 18)
TRACK: Colour = (92, 82, 76)
WHITE: Colour = (255, 255, 255)
GREY: Colour = (196, 190, 186)
BEST: Colour = (96, 214, 122)
OTHER: Colour = (214, 168, 96)
UNSURE: Colour = (80, 200, 240)  # `unknown`
ON: Colour = (72, 72, 235)  # a watch that holds
OFF: Colour = (170, 140, 170)
OPACITY = 0.72


def annotate(pixels: Pixels, decision: Decision) -> Pixels:
    """A new [H, W, 3] uint8 BGR picture, both sides even, small ones enlarged."""
    picture = _canvas(pixels)
    height, width = picture.shape[:2]
    line = int(np.clip(min(height, width) / 20, 20, 108))  # pixels from one row to the next
    margin = line // 2
    _outlines(picture, decision, line)
    shown = _rows(decision)
    rows = min(len(shown), max((height // 2 - line) // line, 1))
    panel_width = min(max(line * 14, width // 3), width - 2 * margin)
    top = height - margin - (rows + 1) * line - margin
    _shade(picture, margin, top, panel_width, height - margin - top)
    _header(picture, decision, 2 * margin, top + margin // 2 + line - line // 3, panel_width - 2 * margin, line)
    for row, (name, score, colour) in enumerate(shown[:rows], 1):
        _bar(picture, name, score, colour, (2 * margin, top + margin // 2 + row * line, panel_width - 2 * margin, line))
    return picture


def _rows(decision: Decision) -> list[tuple[str, float, Colour]]:
    """What holds, what the frame is, what else is looked for."""
    watches = sorted(decision.watches, key=lambda watch: not watch.on)
    rows = [(watch.name, watch.probability, ON if watch.on else OFF) for watch in watches]
    if decision.is_unknown:
        rows.append((UNKNOWN, decision.unknown, UNSURE))
    for place, index in enumerate(decision.order):
        best = place == 0 and not decision.is_unknown
        rows.append((decision.names[index], float(decision.scores[index]), BEST if best else OTHER))
    return rows


def _outlines(picture: Pixels, decision: Decision, line: int) -> None:
    """The regions of watches, those that hold last and named."""
    size = (picture.shape[1], picture.shape[0])
    for watch in sorted(decision.watches, key=lambda watch: watch.on):
        if watch.outline:
            corners = np.array([[round(x * size[0]), round(y * size[1])] for x, y in watch.outline], np.int32)
            thick = max(line // 8, 2)
            inside = np.clip(corners, thick // 2, [size[0] - 1 - thick // 2, size[1] - 1 - thick // 2])
            cv2.polylines(picture, [inside], True, ON if watch.on else OFF, thick, cv2.LINE_AA)
            if watch.on:
                left, top = inside.min(axis=0)
                text = fitted(watch.name, line * 0.5, size[0] - int(left) - line)
                write(picture, text, int(left) + line // 3, int(top) + int(line * 0.75), line * 0.5, ON)


def _canvas(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = max(1.0, min(MIN_SIDE / min(height, width), MAX_SIDE / max(height, width)))
    size = (max(round(width * scale) // 2 * 2, 2), max(round(height * scale) // 2 * 2, 2))
    if size == (width, height):
        return pixels.copy()
    return np.asarray(
        cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA), np.uint8
    )


def _shade(picture: Pixels, left: int, top: int, width: int, height: int) -> None:
    area = picture[top : top + height, left : left + width]
    dark = np.empty_like(area)
    dark[:] = BACKGROUND
    cv2.addWeighted(dark, OPACITY, area, 1 - OPACITY, 0, dst=area)


def _header(picture: Pixels, decision: Decision, left: int, baseline: int, width: int, line: int) -> None:
    size = line * 0.42
    fps = f"{decision.fps:.1f} fps  " if decision.fps else ""
    pace = f"{fps}{decision.age_ns / 1e6:.0f} ms"
    taken = text_width(pace, size)
    write(picture, pace, left + width - taken, baseline, size, GREY)
    time = f"{utc(decision.wall_ns)[11:19]}  "
    room = width - taken - line // 2 - text_width(time, size)
    write(picture, time + fitted_end(decision.picture or decision.source, size, room), left, baseline, size, GREY)


def _bar(picture: Pixels, name: str, score: float, colour: Colour, box: tuple[int, int, int, int]) -> None:
    left, top, width, line = box
    size = line * 0.52
    percent = f"{100 * score:.0f} %"
    taken = text_width("100 %", size)
    baseline = top + int(line * 0.62)
    write(picture, fitted(name, size, width - taken - line // 2), left, baseline, size, WHITE)
    write(picture, percent, left + width - text_width(percent, size), baseline, size, WHITE)
    thick = max(line // 9, 2)
    bottom = top + int(line * 0.78)
    cv2.rectangle(picture, (left, bottom), (left + width - 1, bottom + thick - 1), TRACK, cv2.FILLED)
    filled = round(float(np.clip(score, 0.0, 1.0)) * width)
    if filled:
        cv2.rectangle(picture, (left, bottom), (left + filled - 1, bottom + thick - 1), colour, cv2.FILLED)
