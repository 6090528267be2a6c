"""An annotated recording: MPEG-4 in .mp4, written beside its name and renamed when the run ends.

Files give one picture a decision. Live sources are recorded in real time: at the source's nominal rate (or
25 frames/s), a picture repeated or left out where decisions came slower or faster.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import cv2
import numpy as np

from edgeclip.atomic import sync_directory
from edgeclip.errors import UNAVAILABLE, ConfigError, EdgeclipError, UsageError
from edgeclip.runtime.sinks.annotate import annotate
from edgeclip.runtime.sinks.setting import Setting
from edgeclip.types import Decision, Frame, Pixels

DEFAULT_FPS = 25.0
LONGEST_GAP_S = 2.0  # a source that was away for an hour does not become an hour of one picture


class Video:
    def __init__(self, target: str, setting: Setting) -> None:
        self._path = Path(target)
        self._fps = setting.fps or DEFAULT_FPS
        self._live = setting.live
        self._temporary = ""
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._elapsed_s = 0.0
        self._last_ns = 0
        self._written = 0

    def open(self) -> None:
        if self._path.suffix.lower() != ".mp4":
            raise UsageError(f"--record {self._path}: recordings are .mp4", f"use {self._path.with_suffix('.mp4')}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, self._temporary = tempfile.mkstemp(
                prefix=f".{self._path.name}.", suffix=".part.mp4", dir=self._path.parent
            )
            os.close(handle)
        except OSError as error:
            raise ConfigError(
                f"cannot write {self._path}: {error.strerror}", "name a place you may write to"
            ) from error

    def write(self, decision: Decision, frame: Frame) -> None:
        if decision.closing:
            return
        picture = annotate(frame.pixels, decision)
        if self._writer is None:
            self._writer = self._begin(picture, frame.captured_ns)
        for _ in range(self._due(frame.captured_ns)):
            self._writer.write(self._fitted(picture))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            if not _is_readable(self._temporary):  # OpenCV does not tell that a write failed
                Path(self._temporary).unlink(missing_ok=True)
                raise EdgeclipError(
                    f"cannot write all of {self._path}: its disk may be full",
                    "make room, then start again",
                    UNAVAILABLE,
                )
            os.chmod(self._temporary, 0o644)
            os.replace(self._temporary, self._path)
            sync_directory(self._path.parent)
        elif self._temporary:
            Path(self._temporary).unlink(missing_ok=True)
        self._temporary = ""

    def _begin(self, picture: Pixels, captured_ns: int) -> cv2.VideoWriter:
        height, width = picture.shape[:2]
        self._size = (width, height)
        self._last_ns = captured_ns
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(self._temporary, fourcc, self._fps, self._size)
        if not writer.isOpened():
            raise ConfigError(
                f"--record {self._path}: OpenCV cannot write MPEG-4 here",
                "make room, if the disk is full; else use an OpenCV that was built with FFmpeg",
            )
        return writer

    def _due(self, captured_ns: int) -> int:
        """How many pictures bring a recording of a live source up to `captured_ns`."""
        if not self._live:
            return 1
        self._elapsed_s += min((captured_ns - self._last_ns) / 1e9, LONGEST_GAP_S)
        self._last_ns = captured_ns
        copies = max(int(self._elapsed_s * self._fps) + 1 - self._written, 0)
        self._written += copies
        return copies

    def _fitted(self, picture: Pixels) -> Pixels:
        """The picture in the recording's size: sources may change theirs."""
        width, height = self._size
        if picture.shape[:2] == (height, width):
            return picture
        return np.asarray(cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA), np.uint8)


def _is_readable(path: str) -> bool:
    capture = cv2.VideoCapture(path)
    readable = bool(capture.isOpened())
    capture.release()
    return readable
