"""OpenCV's VideoCapture, made quiet: the one place that configures it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import cast

import cv2

from edgeclip.types import Pixels

# What fails is raised, with its remedy; OpenCV's and FFmpeg's own lines would tear the live table and may hold a
# password. FFmpeg inside OpenCV reads the variable once, at its first use; -8 is AV_LOG_QUIET. A user's setting stands.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

MAX_PLAUSIBLE_FPS = 1000.0  # some demuxers report their time base (90000) as a rate


def opened(target: str | int, backend: int, settings: Sequence[int] = ()) -> cv2.VideoCapture | None:
    """A VideoCapture of `target`, or None where OpenCV cannot open it. settings: CAP_PROP, value, ..."""
    capture = cv2.VideoCapture()
    try:
        if capture.open(target, backend, list(settings)):
            return capture
    except cv2.error:  # some backends raise where others return False
        pass
    capture.release()
    return None


def next_picture(capture: cv2.VideoCapture) -> Pixels | None:
    """The next picture [H, W, 3] uint8 BGR in an array of its own, or None at the end or on a loss."""
    try:
        delivered, pixels = capture.read()
    except cv2.error:  # a damaged picture, or one that no memory was left for
        return None
    return cast(Pixels, pixels) if delivered and pixels is not None and pixels.size else None


def nominal_fps(capture: cv2.VideoCapture) -> float | None:
    """The rate the source states, or None where it states none that can be true."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if 0.0 < fps <= MAX_PLAUSIBLE_FPS else None
