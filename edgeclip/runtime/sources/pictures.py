"""Picture files: one, a directory in natural order, or a glob. Each is one frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import cv2

from edgeclip.errors import DataError, UsageError
from edgeclip.picture import SUFFIXES, is_picture_name, is_utf8, name_of, read_picture
from edgeclip.types import Pixels

SHOWN = 5  # of the pictures that could not be read


class Pictures:
    """realtime: shown one by one at max_fps, like a camera; otherwise each is used once, whatever the rate.

    A picture named by itself that cannot be read is an error at once. In a folder or a pattern such pictures are passed
    over, and are an error once all others were used: one bad file in thousands should not cost the rest.
    picture: path of the one read last, in a folder or a pattern.
    """

    def __init__(
        self, name: str, paths: Sequence[Path], *, realtime: bool = False, max_fps: float | None = None
    ) -> None:
        if realtime and max_fps is None:
            raise UsageError(f"{name}: pictures have no rate of their own", "give --fps N with --realtime")
        self.name = name
        self.live = self.paced = realtime
        self.fps = max_fps if realtime else None
        self.max_fps: float | None = None
        self.picture = ""
        self._paths = paths
        self._alone = list(paths) == [Path(name).expanduser()]
        self._next = 0
        self._unreadable: list[str] = []

    def open(self) -> None:
        self._next = 0
        self._unreadable = []

    def read(self) -> Pixels | None:
        """The next picture that can be read, or None after the last. Raises DataError."""
        while self._next < len(self._paths):
            path = self._paths[self._next]
            self._next += 1
            try:
                pixels = read_picture(path)
            except DataError as error:
                if self._alone:
                    raise
                self._unreadable.append(error.message)
                continue
            self.picture = "" if self._alone else name_of(path)
            return pixels
        if self._unreadable:
            raise self._complaint()
        return None

    def close(self) -> None:
        self._next = len(self._paths)

    def _complaint(self) -> DataError:
        count = len(self._unreadable)
        more = f"; and {count - SHOWN} more" if count > SHOWN else ""
        return DataError(
            f"{self.name}: {count} of {len(self._paths)} pictures could not be read, and were passed over: "
            f"{'; '.join(self._unreadable[:SHOWN])}{more}",
            "mend these or take them away",
        )


def in_directory(directory: Path) -> list[Path]:
    """The pictures directly in `directory`, by suffix, in natural order (2 before 10). Raises DataError if none."""
    paths = sorted((path for path in directory.iterdir() if is_picture_name(path.name) and path.is_file()), key=natural)
    if not paths:
        deeper = next((path for path in directory.glob("*/*") if is_picture_name(path.name)), None)
        hint = f"for those in its folders: '{directory}/**/*{deeper.suffix}'" if deeper else ""
        raise DataError(
            f"{directory} holds no pictures",
            hint or f"it may hold {' '.join(sorted(SUFFIXES))}; a film is named by itself",
        )
    return paths


def is_picture(path: Path) -> bool:
    """By suffix, else by content. An animated GIF counts as a video."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES or suffix == ".gif" or not is_utf8(path):  # OpenCV cannot look into a file of such a name
        return suffix in SUFFIXES
    return bool(cv2.haveImageReader(str(path)))


def natural(path: Path) -> list[tuple[int, str]]:
    """Sort key: digits compare as numbers."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in parts]
