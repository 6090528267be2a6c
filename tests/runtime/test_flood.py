from __future__ import annotations

import numpy as np
import pytest

from edgeclip.runtime.flood import FloodDetector

STATIC = np.full((480, 640, 3), 90, np.uint8)


def found_after_s(detector: FloodDetector, fps: float, *, moving: bool = False, seconds: float = 10) -> float | None:
    """When the detector fires on `fps` pictures a second, or None."""
    picture = STATIC.copy()
    for number in range(int(fps * seconds)):
        if moving:
            picture[0, 0] = number % 256
        if detector.is_flood(picture, 1 + int(number * 1e9 / fps)):
            return number / fps
    return None


@pytest.mark.parametrize("fps", [100, 140, 1000])
@pytest.mark.parametrize("nominal", [None, 25.0, 30.0, 60.0])
def test_one_picture_at_a_hundred_a_second_is_found_in_time(fps: float, nominal: float | None) -> None:
    seconds = found_after_s(FloodDetector(nominal), fps)
    assert seconds is not None
    assert seconds < 4


@pytest.mark.parametrize(("fps", "nominal"), [(30, 30.0), (60, None), (60, 60.0), (120, 120.0), (240, 240.0)])
def test_a_static_scene_at_the_cameras_own_rate_is_none(fps: float, nominal: float | None) -> None:
    assert found_after_s(FloodDetector(nominal), fps) is None


def test_fast_pictures_that_differ_are_none() -> None:
    assert found_after_s(FloodDetector(30.0), 200, moving=True) is None


def test_a_burst_of_a_static_scene_after_a_pause_is_none() -> None:
    detector = FloodDetector(30.0)
    now_ns = 1
    for _ in range(90):  # three seconds sent at once
        now_ns += 1_000_000
        assert not detector.is_flood(STATIC, now_ns)
    for _ in range(300):
        now_ns += 33_333_333
        assert not detector.is_flood(STATIC, now_ns)
