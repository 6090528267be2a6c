"""A camera on this machine, through Video4Linux."""

from __future__ import annotations

import os
import re

import cv2

from edgeclip.errors import SourceError
from edgeclip.runtime.sources.capture import next_picture, nominal_fps, opened
from edgeclip.types import Pixels


class Camera:
    """V4L2 device. `device` is a number, or a path under /dev (links such as /dev/v4l/by-id/... are followed)."""

    live = True
    paced = False

    def __init__(self, device: str, *, max_fps: float | None = None, read_timeout_s: float = 2.0) -> None:
        self.path = f"/dev/video{int(device)}" if device.isdigit() else device
        self.name = f"camera:{device}"
        self.fps: float | None = None
        self.max_fps = max_fps
        self._read_timeout_s = read_timeout_s
        self._capture: cv2.VideoCapture | None = None

    def open(self) -> None:
        path = os.path.realpath(self.path)
        if not os.path.exists(path):
            raise SourceError(
                f"no camera at {self.path}: the device does not exist",
                "look with `ls /dev/video*` (several may be one camera: try each), check the cable, "
                "or use --source demo",
            )
        if not os.access(path, os.R_OK | os.W_OK):
            raise SourceError(
                f"camera {self.path}: permission denied",
                'join the group that owns it: `sudo usermod -aG video "$USER"`, then log in again',
            )
        if not re.fullmatch(r"/dev/video\d+", path):  # the only names OpenCV takes
            raise SourceError(f"{self.path} is not a video device", "see which there are with `ls /dev/video*`")
        timeout = [cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(self._read_timeout_s * 1000)]
        self._capture = opened(path, cv2.CAP_V4L2, timeout)
        if self._capture is None:
            raise SourceError(
                f"camera {self.path} cannot be opened: it is in use, or delivers no pictures",
                f"see who holds it with `fuser -v {path}`; try the other /dev/video* numbers",
            )
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture, not one queued in the driver
        self.fps = nominal_fps(self._capture)

    def read(self) -> Pixels:
        picture = next_picture(self._capture) if self._capture is not None else None
        if picture is None:
            raise SourceError(f"camera {self.path} delivers no more pictures", "check its cable and power")
        return picture

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None
