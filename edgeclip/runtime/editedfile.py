"""Files that people edit while the camera runs, and the last good content of them."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from edgeclip.errors import is_of_system

T = TypeVar("T")

POLL_INTERVAL_S = 0.25

# mtime_ns, ctime_ns (a chmod lets a file be read that could not), size, inode; None where there is no such file
Signature = tuple[int, int, int, int] | None


class EditedFile(Generic[T]):
    """One file, or some that belong together, and what `parse` makes of them.

    The constructor parses, and raises what `parse` raises. poll() is cheap enough for every frame: it looks at the
    files at most every POLL_INTERVAL_S, and parses only once they changed and stayed the same for one look, so that a
    half-saved file is not taken for a bad one.

    well: whether it could be read and was good, when it was last looked at. A file that cannot be read is tried at
    every look: a share that was away, or a folder that was closed, comes back without a trace in the file's times.
    """

    def __init__(self, parse: Callable[[], T], *paths: str | os.PathLike[str]) -> None:
        self._parse = parse
        self._paths = [Path(path) for path in paths]
        self._settled = self._signatures()  # taken before reading: an edit during the read is seen by the next poll
        self._pending = self._settled
        self._next_look_s = 0.0
        self._unread = False
        self.well = True
        self.content = parse()

    def poll(self, now_s: float | None = None) -> T | None:
        """The new content after an edit that changed it, else None.

        now_s: time.monotonic(), or a clock of the caller's. Raises what `parse` raises, once for each bad edit, and
        once from when it cannot be read until it can; `content` then still holds the last good one.
        """
        now_s = time.monotonic() if now_s is None else now_s
        if now_s < self._next_look_s:
            return None
        self._next_look_s = now_s + POLL_INTERVAL_S
        current = self._signatures()
        moving, self._pending = current != self._pending, current
        if moving or (current == self._settled and not self._unread):
            return None
        try:
            content = self._parse()
        except Exception as error:
            if self._signatures() != current:
                return None  # written to while we read it: the next looks decide
            told, self._unread, self.well = self._unread, is_of_system(error), False
            if not self._unread:
                self._settled = current
            elif told:
                return None
            raise
        if self._signatures() != current:
            return None
        self._settled, self._unread, self.well = current, False, True
        if content == self.content:
            return None
        self.content = content
        return content

    def _signatures(self) -> list[Signature]:
        return [_signature(path) for path in self._paths]


def _signature(path: Path) -> Signature:
    """None where there is no such file, which is a state like any other (editors rename over)."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return (0, 0, 0, 0)  # a pipe can be read once, and never changes
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
