"""A part of the frame: what a watch looks at."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from edgeclip.types import Outline

Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Point = tuple[Fraction, Fraction]


class Region(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of the frame, in fractions of its width and height from the top left: a box or a polygon.

    box: left, top, right, bottom. polygon: corners (x, y), at least three; what lies outside of it is not seen.
    """

    box: tuple[Fraction, Fraction, Fraction, Fraction] | None = None
    polygon: Annotated[tuple[Point, ...], Meta(min_length=3, max_length=64)] | None = None

    def __post_init__(self) -> None:
        if (self.box is None) == (self.polygon is None):
            raise ValueError("a region is either a box or a polygon")
        left, top, right, bottom = self.bounds
        if right - left < 0.01 or bottom - top < 0.01:
            raise ValueError("the region is less than a hundredth of the frame wide or high: left, top, right, bottom")

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """left, top, right, bottom."""
        if self.polygon is not None:
            across, down = zip(*self.polygon, strict=True)
            return min(across), min(down), max(across), max(down)
        return self.box or (0.0, 0.0, 1.0, 1.0)

    @property
    def outline(self) -> Outline:
        """Its corners (x, y)."""
        if self.polygon is not None:
            return self.polygon
        left, top, right, bottom = self.bounds
        return (left, top), (right, top), (right, bottom), (left, bottom)


Regions = tuple[Region | None, ...]  # None: the whole frame, which comes first
WHOLE: Regions = (None,)
