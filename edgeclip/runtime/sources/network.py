"""Cameras on the network: RTSP, and MJPEG over HTTP, decoded by the FFmpeg inside OpenCV."""

from __future__ import annotations

import math
import os
import time
from urllib.parse import urlsplit

import cv2

from edgeclip.errors import SourceError
from edgeclip.runtime.sources.address import redacted
from edgeclip.runtime.sources.capture import next_picture, nominal_fps, opened
from edgeclip.runtime.sources.unanswered import why
from edgeclip.types import Pixels

# FFmpeg looks at thirty frames to tell a rate before it gives the first one: three seconds of a camera at 10 fps, on
# every reconnect. Five tell it as well. The first option is OpenCV's own default. A user's setting stands.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_flags;prefer_tcp|fpsprobesize;5")
DAMAGE_S = 1.0
TRIES = 3  # openings in all, for two that say the same size
SMALLEST_SIDE, LONGEST_SHAPE = 64, 4.0  # pixels, and times as long as wide: anything else is looked at twice
PERIODS = 3.0  # of frames: a silence that says something
EXPIRED = 0.95  # of the time-out
DAMAGED_READS = 1000  # what a server sends while a stream is being opened: some hundreds of packets


Size = tuple[int, int]  # width, height

_last_sizes: dict[str, Size] = {}  # of each address, when it was opened last: a lost camera is opened anew, by another


class NetworkStream:
    """An rtsp://, rtsps://, http:// or https:// stream.

    RTSP goes over TCP. Time-outs are given at open (OpenCV's defaults are 30 s). One decoder thread: each further one
    holds a frame back. FFmpeg itself holds one or two, which a silent stream hands on after read_timeout_s each; they
    are passed over, and a silent stream fails after twice read_timeout_s. For 4K on a small board decode in hardware
    (gst:).
    When a camera changes its resolution, OpenCV scales to the one that the stream had when it was opened. A stream that
    is damaged at that moment may give any (16 x 144 was seen), and all pictures would then be scaled to that: one that
    is not the last opening's, or no camera's, holds only where a second opening gives it too.
    """

    live = True
    paced = False

    def __init__(
        self, url: str, *, max_fps: float | None = None, open_timeout_s: float = 5.0, read_timeout_s: float = 2.0
    ) -> None:
        self.name = redacted(url)
        self.fps: float | None = None
        self.max_fps = max_fps
        self._url = url
        self._settings = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(open_timeout_s * 1000)),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(read_timeout_s * 1000)),
            *(cv2.CAP_PROP_N_THREADS, 1),
        ]
        self._read_timeout_s = read_timeout_s
        self._silence_s = math.inf  # what takes so long was given up by FFmpeg
        self._capture: cv2.VideoCapture | None = None
        if not urlsplit(url).netloc:
            raise SourceError(f"{self.name}: the host is missing", "write rtsp://HOST[:PORT]/PATH")

    def open(self) -> None:
        last = _last_sizes.get(self._url)
        likely = {last}
        for _ in range(TRIES):
            capture = self._capture = opened(self._url, cv2.CAP_FFMPEG, self._settings)
            if capture is None:
                raise SourceError(*why(self._url, self.name))
            size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
            if size in likely or (last is None and _is_a_cameras(size)):
                _last_sizes[self._url] = size
                self.fps = nominal_fps(capture)
                slow = self.fps is None or PERIODS / self.fps >= self._read_timeout_s
                self._silence_s = math.inf if slow else EXPIRED * self._read_timeout_s
                return
            self.close()
            likely.add(size)
        raise SourceError(f"{self.name}: every opening gives another resolution; the stream is damaged")

    def read(self) -> Pixels:
        """The next picture. A damaged packet fails one read of OpenCV's, as a lost connection does: it is read on, for
        DAMAGE_S at most. On a lost connection every try fails at once; on a silent stream a try takes read_timeout_s,
        and what it then gives is what the decoder held back: old, and passed over."""
        begun_s = tried_s = time.monotonic()
        for _ in range(DAMAGED_READS):
            picture = next_picture(self._capture) if self._capture is not None else None
            now_s = time.monotonic()
            if picture is None:
                limit_s = DAMAGE_S
            elif now_s - tried_s < self._silence_s:
                return picture
            else:
                limit_s = 2.0 * self._silence_s
            if now_s - begun_s >= limit_s:
                break
            tried_s = now_s
        raise SourceError(
            f"{self.name}: the stream ended or stopped delivering",
            "for a camera of less than a frame a second: a longer read_timeout_s in the configuration",
        )

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def _is_a_cameras(size: Size) -> bool:
    return min(size) >= SMALLEST_SIDE and max(size) <= LONGEST_SHAPE * min(size)
