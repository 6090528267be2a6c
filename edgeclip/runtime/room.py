"""A disk that is full or ill when a service starts is waited for: systemd gives up a crash loop after five starts, in
half a minute, and nobody is near to start the service again."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from edgeclip.errors import DISK
from edgeclip.runtime.notify import sd_notify

RETRY_S, LONGEST_RETRY_S = 30.0, 600.0  # the first wait, twice as long each time
LOOK_S = 0.2
FED_S = 5.0  # between two words to the watchdog
SQLITE_WORDS = ("disk is full", "disk I/O error")  # its codes are told from Python 3.11 on


def lacks_room(error: BaseException | None) -> bool:
    """Whether a disk is why a run did not begin: of `error`, or of what it was raised from."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK:
            return True
        if isinstance(error, sqlite3.Error) and any(word in str(error) for word in SQLITE_WORDS):
            return True
        error = error.__cause__
    return False


def wait_for_room(why: str, waits: int, stop: Callable[[], bool], tell: Callable[..., object] = sd_notify) -> None:
    """Until the next try, after `waits` earlier ones, or a stop. The manager is told that the service is up, and
    degraded: one that stayed "activating" would hold up the boot."""
    retry_s = min(RETRY_S * 2.0 ** min(waits, 16), LONGEST_RETRY_S)
    end_s = time.monotonic() + retry_s
    fed_s = 0.0
    while (now_s := time.monotonic()) < end_s and not stop():
        if now_s >= fed_s:
            fed_s = now_s + FED_S
            tell("READY=1", "WATCHDOG=1", f"STATUS=degraded: {why}; tried again after {retry_s:g} s")
        time.sleep(LOOK_S)
