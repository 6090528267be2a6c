from __future__ import annotations

import cv2
import numpy as np
import pytest
from scene import sight

from edgeclip.capture.quality import judge, sharpness, thumbnail
from edgeclip.types import Pixels


def grey(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY))


def with_clock(level: int) -> Pixels:
    """What a camera shows at night, or without a signal: nothing, and the time."""
    pixels = np.full((480, 640, 3), level, np.uint8)
    cv2.putText(pixels, "2026-01-01 03:12", (20, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 2)
    return pixels


def test_a_sharp_frame_is_good() -> None:
    assert judge(sight(1), grey(sight(1))).fault is None


@pytest.mark.parametrize("level", [0, 127, 255])
def test_an_even_frame_is_blank(level: int) -> None:
    pixels = np.full((120, 160, 3), level, np.uint8)
    assert judge(pixels, grey(pixels)).fault == "blank"


def test_a_black_frame_with_a_clock_on_it_is_dark() -> None:
    pixels = with_clock(3)
    assert judge(pixels, grey(pixels)).fault in ("dark", "blank")
    lit = np.asarray(cv2.resize(grey(pixels), (160, 120), interpolation=cv2.INTER_LINEAR), np.uint8)
    lit[:8] = 255  # the clock as a small network would see it: bright, and a fifteenth of the picture
    assert judge(pixels, lit).fault == "dark"


@pytest.mark.parametrize("scale", [1, 4])
def test_a_blurred_frame_is_found_whatever_the_cameras_size(scale: int) -> None:
    pixels = cv2.resize(sight(2), None, fx=scale * 3, fy=scale * 3, interpolation=cv2.INTER_NEAREST)
    blurred = np.asarray(cv2.GaussianBlur(pixels, (0, 0), min(pixels.shape[:2]) / 30), np.uint8)
    assert judge(np.asarray(pixels, np.uint8), grey(pixels)).fault is None
    assert judge(blurred, grey(blurred)).fault == "blurred"
    assert judge(blurred, grey(blurred), min_sharpness=0.0).fault is None


def test_sharpness_hardly_depends_on_the_cameras_size() -> None:
    photo = np.asarray(cv2.GaussianBlur(cv2.resize(sight(3), (1280, 960)), (0, 0), 3), np.uint8)
    half = np.asarray(cv2.resize(photo, (640, 480), interpolation=cv2.INTER_AREA), np.uint8)
    assert sharpness(half) == pytest.approx(sharpness(photo), rel=0.15)


def test_a_thumbnail_tells_frames_apart_as_build_does() -> None:
    from edgeclip.build.calibrate import THUMBNAIL

    small = thumbnail(grey(sight(4)))
    assert small.shape == (THUMBNAIL * THUMBNAIL,)
    assert float(np.abs(small - thumbnail(grey(sight(5)))).mean()) > 1.0
