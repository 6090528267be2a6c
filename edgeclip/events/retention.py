"""Bounds on a folder of pictures and clips: the oldest go first.

How old a file is says its time of modification, and a clock may be wrong: a board without one of its own starts in
1970 and is told the time by the network; another is years ahead until somebody mends it. So whoever writes looks at
the clock before, and once an hour: where it was set since the last look, every file's time is moved by as much, and
each file keeps its age and its place in the order. `.clock` in the folder was modified at the last look, so that this
also holds from one run to the next: then nobody knows how long it was, and the clock is believed for a quarter of the
age that files may reach.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SUFFIXES = frozenset({".jpg", ".mp4"})
LEFT_OVER_S = 3600.0  # a .part that old belongs to no writer
CLOCK = ".clock"
CLOCK_SET_S = 60.0  # more than that between two looks: the wall clock was set
BELIEVED = 0.25  # of the largest age, for the time between two runs


class Retention:
    """Of one folder, with a folder a day in it, and one writer. Times in seconds."""

    def __init__(
        self,
        folder: Path,
        max_bytes: float,
        max_age_s: float,
        wall_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._max_bytes, self._max_age_s = folder, max_bytes, max_age_s
        self._wall_s, self._monotonic_s = wall_s, monotonic_s
        self._looked_s: float | None = None  # monotonic
        self._seen_s = 0.0  # wall, at that time

    def look(self) -> None:
        """To be called before a file is written. Raises OSError."""
        now_s, monotonic_s = self._wall_s(), self._monotonic_s()
        since_s = monotonic_s - self._looked_s if self._looked_s is not None else 0.0
        if self._folder.is_dir():
            set_by_s = now_s - self._expected_s(now_s, since_s)
            if set_by_s > CLOCK_SET_S:
                self._move(set_by_s, now_s, since_s)
            self._stamp(now_s)  # a power cut beside it: what is moved twice is younger than it was, never older
            if set_by_s < -CLOCK_SET_S:
                self._move(set_by_s, now_s, since_s)
        self._looked_s, self._seen_s = monotonic_s, now_s

    def remove_oldest(self) -> list[Path]:
        """Removes pictures and clips that are too old, then the oldest until the rest is small enough, and folders left
        empty. Returns what was removed. Raises OSError."""
        self.look()
        found = []
        for modified_s, path, size in self._files():
            if path.name.startswith(".") and self._seen_s - modified_s > LEFT_OVER_S:
                path.unlink(missing_ok=True)
            elif path.suffix in SUFFIXES and not path.name.startswith("."):
                found.append((modified_s, path, size))
        found.sort(reverse=True)
        kept, removed = 0.0, []
        for modified_s, path, size in found:
            kept += size
            if kept > self._max_bytes or self._seen_s - modified_s > self._max_age_s:
                path.unlink(missing_ok=True)
                removed.append(path)
        for day in {path.parent for path in removed}:
            if not any(day.iterdir()):
                day.rmdir()
        return removed

    def _expected_s(self, now_s: float, since_s: float) -> float:
        """What the wall clock says if nobody has set it since the last look, `since_s` ago."""
        if self._looked_s is not None:
            return self._seen_s + since_s
        try:
            seen_s = (self._folder / CLOCK).stat().st_mtime
        except FileNotFoundError:  # new, or of an earlier version
            seen_s = max((modified_s for modified_s, *_ in self._files()), default=now_s)
        return min(max(seen_s, now_s), seen_s + BELIEVED * self._max_age_s)

    def _move(self, by_s: float, now_s: float, since_s: float) -> None:
        for modified_s, path, _ in self._files():
            if now_s - since_s <= modified_s <= now_s:  # written since the last look, by the clock as it is now
                continue
            with suppress(OSError):  # somebody else's: it goes by the clock
                os.utime(path, (now_s, min(modified_s + by_s, now_s)))

    def _stamp(self, now_s: float) -> None:
        stamp = self._folder / CLOCK
        stamp.touch()
        os.utime(stamp, (now_s, now_s))

    def _files(self) -> list[tuple[float, Path, int]]:
        """(modified, path, bytes), temporary ones among them."""
        found = []
        for path in self._folder.glob("*/*"):
            with suppress(FileNotFoundError):  # a clip that was renamed meanwhile
                stat = path.stat()
                found.append((stat.st_mtime, path, stat.st_size))
        return found
