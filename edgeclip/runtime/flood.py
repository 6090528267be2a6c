"""Recognises a broken source that repeats one picture faster than any camera runs."""

from __future__ import annotations

import zlib

from edgeclip.types import Pixels

SUSPICIOUS_FPS = 90.0  # floods were seen at 100 and more; no camera of unknown rate is taken for that fast
WINDOW_NS = 1_000_000_000
SAMPLE_STEP = 16  # pixels


class FloodDetector:
    """Two seconds in a row above the suspicious rate, the second with one picture only, are a flood.

    A static scene at the camera's own rate never gets there, nor does the burst a server sends after a pause.
    Nothing is compared, and nothing copied, while the rate is below suspicion.
    """

    def __init__(self, nominal_fps: float | None) -> None:
        self._limit_fps = max(SUSPICIOUS_FPS, 1.5 * (nominal_fps or 0.0))
        self._window_start_ns = 0
        self._count = 0
        self._suspicious = False
        self._same = True
        self._digest: int | None = None

    def is_flood(self, pixels: Pixels, now_ns: int) -> bool:
        """Take note of one picture; True when it is part of a flood."""
        if self._window_start_ns == 0:
            self._window_start_ns = now_ns
            return False
        self._count += 1
        if self._suspicious and self._same:
            digest = zlib.crc32(pixels[::SAMPLE_STEP, ::SAMPLE_STEP].tobytes())
            self._same = self._digest in (None, digest)
            self._digest = digest
        elapsed_ns = now_ns - self._window_start_ns
        if elapsed_ns < WINDOW_NS:
            return False
        fast = self._count * 1e9 / elapsed_ns >= self._limit_fps
        flood = fast and self._suspicious and self._same
        self._suspicious, self._same, self._digest = fast, True, None
        self._window_start_ns, self._count = now_ns, 0
        return flood
