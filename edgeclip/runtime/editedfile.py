"""Files that people edit while the camera runs, and the last good content of them."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

POLL_INTERVAL_S = 0.25

# mtime_ns, ctime_ns (a chmod lets a file be read that could not), size, inode; None where there is no such file
Signature = tuple[int, int, int, int] | None


class EditedFile(Generic[T]):
    """One file, or some that belong together, and what `parse` makes of them.

    The constructor parses, and raises what `parse` raises. poll() is cheap enough for every frame: it looks at the
    files at most every POLL_INTERVAL_S, and parses only once they changed and stayed the same for one look, so that a
    half-saved file is not taken for a bad one.
    """

    def __init__(self, parse: Callable[[], T], *paths: str | os.PathLike[str]) -> None:
        self._parse = parse
        self._paths = [Path(path) for path in paths]
        self._settled = self._signatures()  # taken before reading: an edit during the read is seen by the next poll
        self._pending = self._settled
        self._next_look_s = 0.0
        self.content = parse()

    def poll(self, now_s: float | None = None) -> T | None:
        """The new content after an edit that changed it, else None.

        now_s: time.monotonic(), or a clock of the caller's. Raises what `parse` raises, once for each bad edit (or
        removal); `content` then still holds the last good one.
        """
        now_s = time.monotonic() if now_s is None else now_s
        if now_s < self._next_look_s:
            return None
        self._next_look_s = now_s + POLL_INTERVAL_S
        current = self._signatures()
        moving, self._pending = current != self._pending, current
        if moving or current == self._settled:
            return None
        try:
            content = self._parse()
        except Exception:
            if self._signatures() == current:
                self._settled = current
                raise
            return None  # written to while we read it: the next looks decide
        if self._signatures() != current:
            return None
        self._settled = current
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
