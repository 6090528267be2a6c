"""Picture files: one, a directory in natural order, or a glob. Each is one frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import cv2

from edgeclip.errors import DataError, UsageError
from edgeclip.picture import SUFFIXES, is_picture_name, read_picture
from edgeclip.types import Pixels


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
    paths = sorted((path for path in directory.iterdir() if is_picture_name(path.name) and path.is_file()), key=natural)
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
