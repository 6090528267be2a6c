"""A disk that is full or ill is waited for by a service: systemd gives up a crash loop after five starts, in
half a minute, and nobody is near to start the service again."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from edgeclip.errors import DISK, causes
from edgeclip.runtime.journal import ERROR, Notice
from edgeclip.runtime.notify import sd_notify

RETRY_S, LONGEST_RETRY_S = 30.0, 600.0  # the first wait, twice as long each time
LASTED_S = 600.0  # of a run: its failure is news
LOOK_S = 0.2
FED_S = 5.0  # between two words to the watchdog
SQLITE_WORDS = ("disk is full", "disk I/O error")  # its codes are told from Python 3.11 on


def lacks_room(error: BaseException) -> bool:
    """Whether a disk is why a run ended: of `error`, or of what it was raised from."""
    return any(_is_of_disk(one) for one in causes(error))


def _is_of_disk(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        return any(word in str(error) for word in SQLITE_WORDS)
    return isinstance(error, OSError) and error.errno in DISK


class Waiting:
    """For room, between the tries of a run: twice as long each time, until one lasted."""

    def __init__(self, tell: Callable[..., object] = sd_notify) -> None:
        self._tell = tell
        self._waits = 0
        self._tried_at_s = time.monotonic()

    def wait(self, why: str, stop: Callable[[], bool], notify: Callable[[str], None]) -> None:
        """Until the next try, or a stop. The manager is told that the service is up, and degraded: one that stayed
        "activating" would hold up the boot."""
        if time.monotonic() - self._tried_at_s > LASTED_S:
            self._waits = 0
        if not self._waits:
            notify(Notice(f"waiting for room on the disk: {why}", ERROR))
        retry_s = min(RETRY_S * 2.0 ** min(self._waits, 16), LONGEST_RETRY_S)
        self._waits += 1
        end_s, fed_s = time.monotonic() + retry_s, 0.0
        while (now_s := time.monotonic()) < end_s and not stop():
            if now_s >= fed_s:
                fed_s = now_s + FED_S
                self._tell("READY=1", "WATCHDOG=1", f"STATUS=degraded: {why}; tried again after {retry_s:g} s")
            time.sleep(LOOK_S)
        self._tried_at_s = time.monotonic()
