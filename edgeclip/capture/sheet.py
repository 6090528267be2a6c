"""The contact sheet: every frame that is kept, the most different ones first."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeclip.capture.canvas import Canvas
from edgeclip.capture.shown import Shown
from edgeclip.lettering import Colour, fitted

NIGHT: Colour = (30, 25, 22)
BRIGHT: Colour = (240, 236, 232)
DIM: Colour = (160, 150, 142)
MARGIN, GAP, HEAD, CAPTION = 32, 8, 84, 22
LANDSCAPE = 1.5  # width over height that the columns are chosen for


def contact_sheet(shown: Sequence[Shown], order: Sequence[int], title: str, subtitle: str) -> Canvas:
    """shown[i] for each i of `order`, row by row, with its file's number and its distance when it came."""
    pictures = [shown[index].pixels() for index in order]
    width, height = max(picture.shape[1] for picture in pictures), max(picture.shape[0] for picture in pictures)
    pitch = height + CAPTION + GAP
    columns = min(max(4, round(math.sqrt(len(order) * LANDSCAPE * pitch / (width + GAP)))), max(len(order), 4))
    rows = -(-len(order) // columns)
    canvas = Canvas(2 * MARGIN + columns * (width + GAP) - GAP, HEAD + MARGIN + rows * pitch - GAP, NIGHT)
    inside = canvas.width - 2 * MARGIN
    canvas.text(fitted(title, 26, inside), MARGIN, 44, 26, BRIGHT)
    canvas.text(fitted(subtitle, 15, inside), MARGIN, 68, 15, DIM)
    for place, picture in enumerate(pictures):
        left, top = MARGIN + place % columns * (width + GAP), HEAD + place // columns * pitch
        canvas.picture(picture, left, top, width, height)
        frame, baseline = shown[order[place]].row, top + height + CAPTION - 6
        canvas.text(frame.file.partition(".")[0], left, baseline, 13, DIM)
        if frame.distance is not None:
            canvas.text(f"{frame.distance:.3f}", left + width, baseline, 13, DIM, align=1)
    return canvas
