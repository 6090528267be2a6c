"""A moving camera over real photographs, for the first run and for tests: no device, no download.

The photographs are those that scikit-image carries in its package; only their files are used, nothing is imported.
"""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np

from edgeclip.errors import SourceError
from edgeclip.picture import read_picture
from edgeclip.types import Pixels

WIDTH, HEIGHT, FPS = 640, 480, 30.0
FRAMES_PER_PHOTOGRAPH = 120  # four seconds
SEED = 20210226


class Photograph(NamedTuple):
    """What it shows, its file, and where in it the subject's middle is (fractions of width and height)."""

    name: str
    file: str
    x: float
    y: float


# What the demo camera shows: the everyday things. A build looks at all of PHOTOGRAPHS.
SHOWN = (
    Photograph("cat", "chelsea.png", 0.50, 0.50),
    Photograph("coffee cup", "coffee.png", 0.47, 0.50),
    Photograph("motorcycle", "motorcycle_left.png", 0.52, 0.55),
)
PHOTOGRAPHS = (
    *SHOWN,
    Photograph("rocket", "rocket.jpg", 0.50, 0.55),
    Photograph("astronaut", "astronaut.png", 0.48, 0.40),
    Photograph("photographer", "camera.png", 0.45, 0.42),
    Photograph("coins", "coins.png", 0.50, 0.50),
)


class View(NamedTuple):
    """A window of the frame's shape on a photograph: its middle and its width, in the photograph's pixels."""

    x: float
    y: float
    width: float


def photographs(chosen: tuple[Photograph, ...] = PHOTOGRAPHS) -> list[tuple[str, Path]]:
    """(what it shows, file) of the demo's photographs. Raises SourceError where scikit-image is not installed."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SourceError("the demo camera needs the photographs of scikit-image", "pip install 'edgeclip[demo]'")
    directory = Path(spec.origin).parent / "data"
    found = [(photograph.name, directory / photograph.file) for photograph in chosen]
    for _, path in found:
        if not path.is_file():
            raise SourceError(
                f"the demo photograph {path} is missing", "pip install --force-reinstall 'edgeclip[demo]'"
            )
    return found


class Demo:
    """Endless 640x480 BGR frames at 30 fps; each photograph is panned and zoomed for four seconds.

    frame(i) depends on i alone, so two runs see the same pictures. Played as a live source.
    """

    name = "demo"
    live = True
    paced = True

    def __init__(self, *, max_fps: float | None = None, chosen: tuple[Photograph, ...] = SHOWN) -> None:
        self.fps: float | None = FPS
        self.max_fps = max_fps
        self._chosen = chosen
        self._paths = [path for _, path in photographs(chosen)]
        self._pictures: list[Pixels] = []
        self._next = 0

    def open(self) -> None:
        self._pictures = [read_picture(path) for path in self._paths]
        self._next = 0

    def read(self) -> Pixels:
        picture = self.frame(self._next)
        self._next += 1
        return picture

    def close(self) -> None:
        self._pictures = []

    def frame(self, index: int) -> Pixels:
        """Frame `index` [480, 640, 3] uint8 BGR. Call open() first."""
        if not self._pictures:
            raise SourceError("the demo camera is not open")
        shot, step = divmod(index, FRAMES_PER_PHOTOGRAPH)
        photograph = self._chosen[shot % len(self._chosen)]
        picture = self._pictures[shot % len(self._chosen)]
        start, end = journey(shot, photograph, picture.shape[1], picture.shape[0])
        time = step / (FRAMES_PER_PHOTOGRAPH - 1)
        eased = time * time * (3.0 - 2.0 * time)  # starts and stops gently
        view = View(*(a + (b - a) * eased for a, b in zip(start, end, strict=True)))
        scale = WIDTH / view.width
        placement = np.array(
            [[scale, 0.0, WIDTH / 2 - scale * view.x], [0.0, scale, HEIGHT / 2 - scale * view.y]], np.float64
        )
        return cast(
            Pixels,
            cv2.warpAffine(
                picture, placement, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            ),
        )


def journey(shot: int, photograph: Photograph, width: int, height: int) -> tuple[View, View]:
    """Where the camera starts and ends on a photograph of width x height pixels: a wide view and a closer one of the
    subject, in an order drawn by lot."""
    lot = random.Random(SEED + shot)
    widest = min(width, height * WIDTH / HEIGHT)
    wide = _view(photograph, width, height, widest * lot.uniform(0.94, 1.0), lot)
    close = _view(photograph, width, height, widest * lot.uniform(0.76, 0.86), lot)
    return (wide, close) if lot.random() < 0.5 else (close, wide)


def _view(photograph: Photograph, width: int, height: int, view_width: float, lot: random.Random) -> View:
    """A view near the subject that stays inside the photograph."""
    half_width, half_height = view_width / 2, view_width * HEIGHT / WIDTH / 2
    x = photograph.x * width + lot.uniform(-0.06, 0.06) * view_width
    y = photograph.y * height + lot.uniform(-0.06, 0.06) * view_width
    return View(min(max(x, half_width), width - half_width), min(max(y, half_height), height - half_height), view_width)
