"""A camera picture becomes an engine's input: resized and cropped by the manifest, as Pillow would do it.

OpenCV's bilinear and bicubic resizes alias when they shrink, so the filter is applied here: the picture is halved while
it is far larger than needed (what that does to the filter is folded into the weights), then two banded matrix products.
build/reference_preprocess.py measures how near to Pillow that is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from edgeclip.bundle import Preprocess
from edgeclip.errors import DataError
from edgeclip.types import Pixels

Floats = npt.NDArray[np.float32]
Weights = npt.NDArray[np.float64]
Batch = npt.NDArray[np.uint8]  # [1, H, W, 3] RGB

KEPT_PIXELS = 3.0  # at least, per output pixel, when halving ends: 0.3 grey levels from Pillow; 2.0 gives 0.6, none 0.1
BAND_ROWS = 8
SMALL_PRODUCT = 200_000  # multiplications; OpenBLAS shares larger ones with workers that then spin beside the engine
PLANS = 64  # input sizes whose weights are kept: folders of pictures have many, and so have watches with regions


class Scratch:
    """The memory that one picture needs on its way, used again for the next one, whatever its size.

    A camera that comes back with another resolution, or a folder of pictures, would otherwise leave megabytes for each.
    """

    def __init__(self) -> None:
        self._kept: dict[str, npt.NDArray[np.uint8]] = {}  # by what it is for, flat
        self.grown = 0  # how often views made before must be made again, or keep the memory before

    def floats(self, use: str, *shape: int) -> Floats:
        """[*shape] float32, not cleared."""
        return self.pixels(use, *shape[:-1], shape[-1] * 4).view(np.float32)

    def pixels(self, use: str, *shape: int) -> Pixels:
        """[*shape] uint8, not cleared."""
        count = math.prod(shape)
        kept = self._kept.get(use)
        if kept is None or kept.size < count:
            self.grown += kept is not None
            kept = self._kept[use] = np.empty(count, np.uint8)
        return kept[:count].reshape(shape)


class Preprocessor:
    """Call with pixels [h, w, 3] uint8 BGR: [1, H, W, 3] uint8 RGB, in a buffer that the next call overwrites.

    Not for two threads at once, nor those that share `scratch`. Raises DataError for anything that is not such a
    picture.
    """

    def __init__(self, facts: Preprocess, scratch: Scratch | None = None) -> None:
        self._facts = facts
        self._scratch = scratch or Scratch()
        self._grown = self._scratch.grown
        self._plans: dict[tuple[int, ...], _Plan] = {}
        self._batch: Batch = np.empty((1, *facts.size, 3), np.uint8)

    def __call__(self, pixels: Pixels) -> Batch:
        if self._grown != self._scratch.grown:
            self._forget()
        plan = self._plans.get(pixels.shape)
        if plan is None:
            plan = self._plan(pixels)
        if pixels.dtype != np.uint8:
            raise DataError(f"a picture has pixels of type {pixels.dtype}, not uint8", "convert it to 8 bits a channel")
        plan.apply(pixels, self._batch[0])
        return self._batch

    def _plan(self, pixels: Pixels) -> _Plan:
        if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise DataError(f"a picture has shape {list(pixels.shape)}, not [height, width, 3]", "convert it to colour")
        if len(self._plans) >= PLANS:
            del self._plans[next(iter(self._plans))]
        plan = _Plan(pixels.shape[0], pixels.shape[1], self._facts, self._scratch)
        if self._grown != self._scratch.grown:
            self._forget()
        self._plans[pixels.shape] = plan
        return plan

    def _forget(self) -> None:
        """The plans, which hold on to the memory before."""
        self._plans.clear()
        self._grown = self._scratch.grown


class _Plan:
    """Weights for pictures of one size, and what of `scratch` they need."""

    def __init__(self, height: int, width: int, facts: Preprocess, scratch: Scratch) -> None:
        rows, columns = facts.size
        (tall, top), (wide, left) = placement(height, width, facts)
        self._y, y_weights = _axis(height, tall, top, rows, facts.interpolation)
        self._x, x_weights = _axis(width, wide, left, columns, facts.interpolation)
        used_rows, used_columns = self._y.used, self._x.used
        self._halved = _halvings((used_rows, self._y.box), (used_columns, self._x.box), scratch)
        # The products run over flat rows, so the horizontal one works on the transposed picture.
        self._source = scratch.floats("source", used_rows, used_columns, 3)
        self._tall_done = scratch.floats("tall done", rows, used_columns, 3)
        self._turned = scratch.floats("turned", used_columns, rows, 3)
        self._both_done = scratch.floats("both done", columns, rows, 3)
        self._upright = scratch.floats("upright", rows, columns, 3)
        self._rounded = scratch.pixels("rounded", rows, columns, 3)
        self._products = _products(y_weights, self._source.reshape(used_rows, -1), self._tall_done.reshape(rows, -1))
        self._turned_products = _products(
            x_weights, self._turned.reshape(used_columns, -1), self._both_done.reshape(columns, -1)
        )

    def apply(self, pixels: Pixels, out: Pixels) -> None:
        """Pixels [h, w, 3] BGR into `out` [H, W, 3] RGB."""
        x, y = self._x, self._y
        part = pixels[y.start : y.start + y.used * y.box, x.start : x.start + x.used * x.box]
        for half in self._halved:
            cv2.resize(part, half.shape[1::-1], dst=half, interpolation=cv2.INTER_AREA)
            part = half
        np.copyto(self._source, part)
        for weights, band, result in self._products:
            np.matmul(weights, band, out=result)
        cv2.transpose(self._tall_done, dst=self._turned)
        for weights, band, result in self._turned_products:
            np.matmul(weights, band, out=result)
        cv2.transpose(self._both_done, dst=self._upright)
        cv2.addWeighted(self._upright, 1.0, self._upright, 0.0, 0.0, dst=self._rounded, dtype=cv2.CV_8U)  # clips
        cv2.cvtColor(self._rounded, cv2.COLOR_BGR2RGB, dst=out)


def _halvings(rows: tuple[int, int], columns: tuple[int, int], scratch: Scratch) -> list[Pixels]:
    """Buffers for each halving down to (pixels left, pixels in each) of both axes. OpenCV is fastest at two by two."""
    buffers: list[Pixels] = []
    (height, tall_box), (width, wide_box) = rows, columns
    box = max(tall_box, wide_box)
    while box > 1:
        box //= 2
        use = f"halved {len(buffers)}"
        buffers.append(scratch.pixels(use, height * min(box, tall_box), width * min(box, wide_box), 3))
    return buffers


class _Axis(NamedTuple):
    """One direction: the part of the picture that is used, and how often it is halved.

    start: first pixel used. box: pixels averaged into one, a power of two. used: how many averages.
    """

    start: int
    box: int
    used: int


def _axis(length: int, scaled: int, first: int, count: int, interpolation: str) -> tuple[_Axis, Weights]:
    """An axis, and the filter [count, used] on what is left of it after its halvings."""
    weights = filter_weights(length, scaled, first, count, interpolation)
    touched = np.flatnonzero(weights.any(axis=0))
    start, end = int(touched[0]), int(touched[-1]) + 1
    spare = length / scaled / KEPT_PIXELS
    box = 2 ** int(math.log2(spare)) if spare > 1.0 else 1
    used = (end - start) // box
    whole = start + used * box
    # A box spreads its pixels' weights evenly: the nearest filter to the wanted one is their sum.
    summed = weights[:, start:whole].reshape(count, used, box).sum(axis=2)
    summed[:, -1] += weights[:, whole:end].sum(axis=1)  # less than a box, at the edge
    return _Axis(start, box, used), summed


def _products(all_weights: Weights, source: Floats, result: Floats) -> list[tuple[Floats, Floats, Floats]]:
    """(weights, band of source, part of result) whose matrix products fill `result`, each a small one."""
    products = []
    width = source.shape[1]
    for top in range(0, len(all_weights), BAND_ROWS):
        rows = all_weights[top : top + BAND_ROWS]
        touched = np.flatnonzero(rows.any(axis=0))
        low, high = int(touched[0]), int(touched[-1]) + 1
        weights = np.ascontiguousarray(rows[:, low:high], np.float32)
        chunks = math.ceil(weights.size * width / SMALL_PRODUCT)
        step = math.ceil(width / chunks)
        products += [
            (weights, source[low:high, left : left + step], result[top : top + BAND_ROWS, left : left + step])
            for left in range(0, width, step)
        ]
    return products


def placement(height: int, width: int, facts: Preprocess) -> tuple[tuple[int, int], tuple[int, int]]:
    """((height, top), (width, left)): the size the whole picture is scaled to, and where the crop begins in it.

    "shortest" is torchvision's Resize and CenterCrop: the longer side is rounded down, the crop's place to even.
    """
    rows, columns = facts.size
    if facts.resize == "squash":
        return (rows, 0), (columns, 0)
    if columns * height >= rows * width:
        tall, wide = max(rows, int(columns * height / width)), columns
    else:
        tall, wide = rows, max(columns, int(rows * width / height))
    return (tall, round((tall - rows) / 2.0)), (wide, round((wide - columns) / 2.0))


def filter_weights(length: int, scaled: int, first: int, count: int, interpolation: str) -> Weights:
    """[count, length]: row i holds what each of `length` pixels adds to pixel first + i of `scaled`. Rows sum to 1.

    Pillow's filters: their support grows with the reduction, and is cut at the picture's edge.
    """
    reach, kernel = KERNELS[interpolation]
    step = length / scaled
    stretch = max(1.0, step)
    weights = np.zeros((count, length))
    for row, position in enumerate(range(first, first + count)):
        centre = (position + 0.5) * step
        low = max(0, int(centre - reach * stretch + 0.5))
        high = min(length, int(centre + reach * stretch + 0.5))
        values = kernel(np.abs(np.arange(low, high) + 0.5 - centre) / stretch)
        weights[row, low:high] = values / values.sum()
    return weights


def _triangle(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.maximum(0.0, 1.0 - distance)


def _cubic(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution with a = -0.5."""
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))


KERNELS: dict[str, tuple[float, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]]] = {
    "bilinear": (1.0, _triangle),
    "bicubic": (2.0, _cubic),
}
