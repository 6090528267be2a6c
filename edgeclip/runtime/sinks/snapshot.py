"""The last frame and its decision as an annotated picture, written once, when the run ends."""

from __future__ import annotations

import errno
from pathlib import Path

import cv2

from edgeclip.atomic import atomic_write
from edgeclip.errors import UNAVAILABLE, ConfigError, EdgeclipError, UsageError
from edgeclip.runtime.sinks.annotate import annotate
from edgeclip.runtime.sinks.setting import Setting
from edgeclip.types import Decision, Frame


class Snapshot:
    def __init__(self, target: str, setting: Setting) -> None:
        self._path = Path(target)
        self._last: tuple[Decision, Frame] | None = None

    def open(self) -> None:
        if not self._path.suffix or not cv2.haveImageWriter(str(self._path)):
            raise UsageError(f"{self._path}: not a picture format this OpenCV writes", "use .png or .jpg")

    def write(self, decision: Decision, frame: Frame) -> None:
        if decision.closing:
            return
        self._last = (decision, frame)

    def close(self) -> None:
        if self._last is None:
            return
        decision, frame = self._last
        self._last = None
        done, encoded = cv2.imencode(self._path.suffix, annotate(frame.pixels, decision))
        if not done:
            raise ConfigError(f"{self._path}: OpenCV could not encode the picture", "use .png")
        try:
            with atomic_write(self._path) as stream:
                stream.write(encoded.tobytes())
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise EdgeclipError(
                    f"cannot write {self._path}: its disk is full", "make room, then start again", UNAVAILABLE
                ) from error
            raise ConfigError(
                f"cannot write {self._path}: {error.strerror}", "name a place you may write to"
            ) from error
