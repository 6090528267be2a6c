"""The contact sheet of one label's shots, with those that are left out marked."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edgeclip.capture.canvas import RED, Canvas
from edgeclip.capture.sheet import BRIGHT, CAPTION, DIM, GAP, HEAD, MARGIN, NIGHT
from edgeclip.lettering import fitted
from edgeclip.runtime.shots import Shot

WIDTH, HEIGHT, COLUMNS = 144, 144, 6
BORDER = 3


def shot_sheet(label: str, shots: Sequence[Shot], thumbnails: Sequence[bytes]) -> Canvas:
    """thumbnails: a JPEG for each shot."""
    pitch = HEIGHT + CAPTION + GAP
    rows = -(-len(shots) // COLUMNS)
    canvas = Canvas(2 * MARGIN + COLUMNS * (WIDTH + GAP) - GAP, HEAD + MARGIN + rows * pitch - GAP, NIGHT)
    inside = canvas.width - 2 * MARGIN
    out = sum(bool(shot.left_out) for shot in shots)
    canvas.text(fitted(label, 26, inside), MARGIN, 44, 26, BRIGHT)
    canvas.text(f"{len(shots)} shots, {out} left out", MARGIN, 68, 15, DIM)
    for place, (shot, jpeg) in enumerate(zip(shots, thumbnails, strict=True)):
        left, top = MARGIN + place % COLUMNS * (WIDTH + GAP), HEAD + place // COLUMNS * pitch
        if shot.left_out:
            canvas.box(left - BORDER, top - BORDER, WIDTH + 2 * BORDER, HEIGHT + 2 * BORDER, RED)
        pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        canvas.picture(np.asarray(pixels, np.uint8), left, top, WIDTH, HEIGHT)
        canvas.text(shot.id, left, top + HEIGHT + CAPTION - 6, 13, RED if shot.left_out else DIM)
    return canvas
