"""A film of a place where hardly anything happens: long stretches of one sight, and short ones of others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
WIDTH, HEIGHT = 160, 120
STILL, EVENT = 40, 6  # frames


def sight(number: int) -> Picture:
    """Sharp patches of colour, each number's own."""
    patches = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(cv2.resize(patches, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST), np.uint8)


def picture_at(index: int) -> Picture:
    """The same sight for 40 frames, with a camera's noise; then one frame each of six others; and so on."""
    turn, place = divmod(index, STILL + EVENT)
    number = 0 if place < STILL else 1 + turn * EVENT + place - STILL
    noise = np.random.default_rng(1000 + index).normal(0, 2, (HEIGHT, WIDTH, 3))
    return np.clip(np.rint(sight(number) + noise), 0, 255).astype(np.uint8)


def write_film(path: Path, frames: int, at: Callable[[int], Picture] = picture_at, fps: int = 30) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "12", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.thread_count = WIDTH, HEIGHT, "yuv420p", 1
        for index in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(at(index), format="bgr24")))
        container.mux(stream.encode())
    return path
