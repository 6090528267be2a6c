"""A picture to draw on with OpenCV alone: text, lines and pictures, in one look. Devices have no matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from edgeclip.lettering import Colour, text_width, write
from edgeclip.types import Pixels

PAPER: Colour = (255, 255, 255)
INK: Colour = (46, 36, 30)
SOFT: Colour = (138, 122, 112)
GRID: Colour = (236, 230, 226)
BLUE: Colour = (196, 106, 32)
GREEN: Colour = (98, 158, 58)
ORANGE: Colour = (40, 128, 232)
RED: Colour = (72, 72, 204)
VIOLET: Colour = (176, 84, 140)
SUBPIXEL = 4  # bits


class Canvas:
    """pixels: [height, width, 3] uint8 BGR. Positions are in pixels, (0, 0) at the top left."""

    def __init__(self, width: int, height: int, background: Colour = PAPER) -> None:
        self.width, self.height = width, height
        self.pixels: Pixels = np.empty((height, width, 3), np.uint8)
        self.pixels[:] = background

    def text(
        self, text: str, left: float, baseline: float, size: float, colour: Colour = INK, align: float = 0
    ) -> None:
        """align: 0 begins at `left`, 0.5 is centred on it, 1 ends there. size: about a line's height, in pixels."""
        write(self.pixels, text, round(left - align * text_width(text, size)), round(baseline), size, colour)

    def line(self, points: Sequence[tuple[float, float]], colour: Colour, thickness: int = 2) -> None:
        fixed = np.rint(np.array(points, np.float64).reshape(-1, 1, 2) * (1 << SUBPIXEL)).astype(np.int32)
        cv2.polylines(self.pixels, [fixed], False, colour, thickness, cv2.LINE_AA, SUBPIXEL)

    def dashes(self, left: float, right: float, y: float, colour: Colour) -> None:
        """A level dashed line."""
        for start in np.arange(left, right, 16.0):
            self.line([(start, y), (min(start + 8.0, right), y)], colour)

    def dot(self, x: float, y: float, radius: float, colour: Colour) -> None:
        centre = (round(x * (1 << SUBPIXEL)), round(y * (1 << SUBPIXEL)))
        cv2.circle(self.pixels, centre, round(radius * (1 << SUBPIXEL)), colour, cv2.FILLED, cv2.LINE_AA, SUBPIXEL)

    def box(self, left: float, top: float, width: float, height: float, colour: Colour) -> None:
        """Filled."""
        right, bottom = round(left + width), round(top + height)
        self.pixels[max(round(top), 0) : max(bottom, 0), max(round(left), 0) : max(right, 0)] = colour

    def picture(self, pixels: Pixels, left: int, top: int, width: int, height: int) -> None:
        """Scaled to fit the place, all of it, in its middle."""
        scale = min(width / pixels.shape[1], height / pixels.shape[0])
        wide, tall = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
        fitting = cv2.resize(pixels, (wide, tall), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        x, y = left + (width - wide) // 2, top + (height - tall) // 2
        self.pixels[y : y + tall, x : x + wide] = fitting

    def png(self) -> bytes:
        return cv2.imencode(".png", self.pixels)[1].tobytes()


def steps(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers between low and high, about `wanted` of them."""
    span = high - low
    if span <= 0.0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= span / wanted)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]
