"""A frame and the parts of it that watches look at, as one batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edgeclip.region import Region, Regions
from edgeclip.types import Pixels

Batch = npt.NDArray[np.uint8]  # [R, H, W, 3] RGB
Preprocess = Callable[[Pixels], Batch]  # pixels -> [1, H, W, 3], in its own buffer


class Crops:
    """Call with pixels [h, w, 3] uint8 BGR and regions: [R, H, W, 3], in a buffer that the next call overwrites.

    A region is seen whole: what a centre crop would cut off is kept by filling up to the engine's shape with the
    region's mean colour, and so is what lies outside a polygon. The frame itself is preprocessed as it always is.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self._preprocess = preprocess
        self._batch: Batch = np.empty((0, 0, 0, 3), np.uint8)
        self._cuts: list[_Cut | None] = []  # as the regions are, for frames of one size
        self._for: tuple[Regions, tuple[int, ...]] = ((), ())

    def __call__(self, pixels: Pixels, regions: Regions) -> Batch:
        whole = self._preprocess(pixels)
        if len(regions) == 1:
            return whole
        if self._batch.shape != (len(regions), *whole.shape[1:]):
            self._batch = np.empty((len(regions), *whole.shape[1:]), np.uint8)
        self._batch[0] = whole[0]
        for_regions, for_shape = self._for
        if regions is not for_regions or pixels.shape != for_shape:
            (height, width), (rows, columns) = pixels.shape[:2], whole.shape[1:3]
            self._cuts = [
                None if region is None else cut_of(height, width, region, columns / rows) for region in regions
            ]
            self._for = regions, pixels.shape
        for row, cut in enumerate(self._cuts):
            if cut is not None:
                self._batch[row] = self._preprocess(cut.apply(pixels))[0]
        return self._batch


@dataclass(frozen=True, slots=True)
class _Cut:
    """One region of frames of one size. canvas: what apply() returns; mask: where the region is, None for a box."""

    rows: slice
    columns: slice
    canvas: Pixels
    at: tuple[slice, slice]
    mask: npt.NDArray[np.uint8] | None

    def apply(self, pixels: Pixels) -> Pixels:
        """The region on its canvas, which the next call overwrites."""
        part = pixels[self.rows, self.columns]
        self.canvas[:] = np.round(cv2.mean(part, self.mask)[:3]).astype(np.uint8)
        if self.mask is None:
            self.canvas[self.at] = part
        else:
            cv2.copyTo(part, self.mask, self.canvas[self.at])
        return self.canvas


def cut_of(height: int, width: int, region: Region, aspect: float) -> _Cut:
    """The cut of `region` from frames [height, width, 3], on a canvas of width / height `aspect` or just above."""
    left, top, right, bottom = region.bounds
    x0, y0 = min(int(left * width), width - 1), min(int(top * height), height - 1)
    x1, y1 = max(round(right * width), x0 + 1), max(round(bottom * height), y0 + 1)
    wide, tall = x1 - x0, y1 - y0
    canvas_wide, canvas_tall = max(wide, round(tall * aspect)), max(tall, round(wide / aspect))
    at_x, at_y = (canvas_wide - wide) // 2, (canvas_tall - tall) // 2
    mask = None
    if region.polygon is not None:
        corners = [[x * width - x0, y * height - y0] for x, y in region.polygon]
        mask = np.zeros((tall, wide), np.uint8)
        cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 255)
    return _Cut(
        rows=slice(y0, y1),
        columns=slice(x0, x1),
        canvas=np.empty((canvas_tall, canvas_wide, 3), np.uint8),
        at=(slice(at_y, at_y + tall), slice(at_x, at_x + wide)),
        mask=mask,
    )
