"""A kept frame as the reports show it: small, and compressed, so that hundreds of them stay in memory."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edgeclip.capture.folder import Row
from edgeclip.types import Pixels

WIDTH, HEIGHT = 192, 144  # that it is fitted into
QUALITY = 85


@dataclass(frozen=True, slots=True)
class Shown:
    """row: its line of the index. jpeg: the picture, at most 192 x 144."""

    row: Row
    jpeg: bytes

    @classmethod
    def of(cls, row: Row, pixels: Pixels) -> Shown:
        height, width = pixels.shape[:2]
        scale = min(WIDTH / width, HEIGHT / height, 1.0)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        return cls(row, cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())

    def pixels(self) -> Pixels:
        """[h, w, 3] uint8 BGR."""
        return np.asarray(cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)
