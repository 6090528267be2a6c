"""A video file: every frame, in order, or played in real time."""

from __future__ import annotations

from pathlib import Path

import cv2

from edgeclip.errors import DataError
from edgeclip.runtime.sources.capture import next_picture, nominal_fps, opened
from edgeclip.types import Pixels

ASSUMED_FPS = 25.0  # to play in real time a file that does not state its rate
COMPLETE = 0.9  # containers may count frames that are never shown (edit lists); fewer than this is damage


class VideoFile:
    """realtime: plays at its own rate like a camera (newest frame wins); otherwise no frame is lost."""

    def __init__(self, path: str, *, realtime: bool = False, max_fps: float | None = None) -> None:
        self.name = path
        self.live = self.paced = realtime
        self.fps: float | None = None
        self.max_fps = max_fps
        self._capture: cv2.VideoCapture | None = None
        self._stated_frames = 0
        self._frames = 0

    def open(self) -> None:
        # An absolute path, because FFmpeg takes the start of "a:b.mp4" for a protocol.
        self._capture = opened(str(Path(self.name).absolute()), cv2.CAP_FFMPEG)
        if self._capture is None:
            raise DataError(
                f"{self.name} is not a readable video or picture",
                f"look at it with `ffprobe '{self.name}'`; H.264 in .mp4 is read everywhere",
            )
        self.fps = nominal_fps(self._capture) or (ASSUMED_FPS if self.paced else None)
        self._stated_frames = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._frames = 0

    def read(self) -> Pixels | None:
        """The next picture, or None at the end. Raises DataError where the file breaks off early."""
        if self._capture is None:
            return None
        picture = next_picture(self._capture)
        if picture is not None:
            self._frames += 1
            return picture
        if self._frames == 0 or self._frames < self._stated_frames * COMPLETE:
            stated = f" of {self._stated_frames}" if self._stated_frames > 0 else ""
            raise DataError(
                f"{self.name} is damaged: it breaks off after {self._frames}{stated} frames", "copy or record it again"
            )
        return None

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None
