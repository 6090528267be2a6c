"""Picture files: one, a directory in natural order, or a glob. Each is one frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgeclip.errors import DataError, UsageError
from edgeclip.types import Pixels

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm"}
)
BACKGROUND = 255  # what shows through transparency: white, as on paper and in browsers


class Pictures:
    """realtime: shown one by one at max_fps, like a camera; otherwise each is used once, whatever the rate."""

    def __init__(
        self, name: str, paths: Sequence[Path], *, realtime: bool = False, max_fps: float | None = None
    ) -> None:
        if realtime and max_fps is None:
            raise UsageError(f"{name}: pictures have no rate of their own", "give --fps N with --realtime")
        self.name = name
        self.live = self.paced = realtime
        self.fps = max_fps if realtime else None
        self.max_fps: float | None = None
        self._paths = paths
        self._next = 0

    def open(self) -> None:
        self._next = 0

    def read(self) -> Pixels | None:
        if self._next >= len(self._paths):
            return None
        path = self._paths[self._next]
        self._next += 1
        return read_picture(path)

    def close(self) -> None:
        self._next = len(self._paths)


def in_directory(directory: Path) -> list[Path]:
    """The pictures directly in `directory`, by suffix, in natural order (2 before 10). Raises DataError if none."""
    paths = sorted(
        (path for path in directory.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()), key=natural
    )
    if not paths:
        raise DataError(f"{directory} holds no pictures", f"it may hold {' '.join(sorted(SUFFIXES))}")
    return paths


def is_picture(path: Path) -> bool:
    """By suffix, else by content. An animated GIF counts as a video."""
    return path.suffix.lower() in SUFFIXES or (path.suffix.lower() != ".gif" and bool(cv2.haveImageReader(str(path))))


def natural(path: Path) -> list[tuple[int, str]]:
    """Sort key: digits compare as numbers."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in parts]


def read_picture(path: Path) -> Pixels:
    """Decode a picture file to [H, W, 3] uint8 BGR, upright.

    EXIF orientation is applied; grey and palette become colour; 16 bits become 8; transparency lies on white.
    Raises DataError for what is unreadable, truncated or floating point, naming the file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "check the path and its permissions") from error
    if data.startswith(b"\xff\xd8"):
        # libjpeg fills the missing part of a truncated file with grey and says nothing to its caller.
        if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
            raise DataError(f"{path} is a truncated JPEG", "copy it again")
        return _decode(path, data, cv2.IMREAD_COLOR)
    raw = _decode(path, data, cv2.IMREAD_UNCHANGED)
    if raw.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path} has {raw.dtype} pixels", "save it with 8 or 16 bits per channel")
    upright = _decode(path, data, cv2.IMREAD_COLOR)
    if raw.ndim == 2 or raw.shape[2] != 4:
        return upright
    if data[:4] in (b"II*\0", b"MM\0*"):  # OpenCV multiplies TIFF colours by alpha, or not, depending on the file
        raise DataError(f"{path} is a TIFF with transparency", "save it as PNG, or without the alpha channel")
    if raw.dtype == np.uint16:
        raw = (raw >> 8).astype(np.uint8)
    return _on_background(_turned_like(upright, raw), upright)


def _decode(path: Path, data: bytes, flags: int) -> npt.NDArray[Any]:
    picture: npt.NDArray[Any] | None = None
    if data:
        with suppress(cv2.error):  # some decoders raise where others return None
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if picture is None or not picture.size:
        raise DataError(f"{path} is not a readable picture", "open it in a viewer; save it again as JPEG or PNG")
    return picture


def _turned_like(upright: Pixels, raw: Pixels) -> Pixels:
    """The alpha of `raw` [h, w, 4], turned as `upright` [H, W, 3] was: OpenCV applies EXIF orientation to colours
    only and does not tell which, so it is found by comparing."""
    for stored in (raw, raw[:, ::-1]):
        for quarter_turns in range(4):
            turned = np.rot90(stored, quarter_turns)
            if np.array_equal(turned[..., :3], upright):
                return turned[..., 3]
    return raw[..., 3]


def _on_background(alpha: Pixels, colours: Pixels) -> Pixels:
    weight = alpha[..., np.newaxis].astype(np.uint16)
    blended = (colours * weight + BACKGROUND * (255 - weight) + 127) // 255
    return np.ascontiguousarray(blended, np.uint8)
