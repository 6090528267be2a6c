"""What glibc keeps of a process's memory that is to run for months: how many heaps, and what is free in them."""

from __future__ import annotations

import ctypes
import threading
import time

ARENAS = 2  # the frame loop's and one for all the others
M_ARENA_MAX = -8  # mallopt(3)
GIVE_BACK_S = 60.0


def limit_arenas(count: int = ARENAS) -> bool:
    """Let threads share `count` heaps; to be called before there are threads. False where malloc is not glibc's.

    Every thread may otherwise have one of its own, up to eight a processor, and none is given back to the system. A
    camera's decoder starts new threads with every reconnect, whose heaps fill up one after the other: measured over
    an hour of faults, 10 MB (benchmarks/LOG.md).
    """
    return bool(_called("mallopt", M_ARENA_MAX, count))


def give_back() -> bool:
    """Give free pages in the middle of heaps back to the system: glibc does so at their ends alone, and what cameras'
    decoders allocate with every reconnect never falls into the same gaps. False where malloc is not glibc's."""
    return _called("malloc_trim", 0) is not None


def keep_giving_back(interval_s: float = GIVE_BACK_S) -> None:
    """From now on, on a thread of its own. It takes below a millisecond, for which other threads' malloc may wait."""

    def give() -> None:
        while give_back():
            time.sleep(interval_s)

    threading.Thread(target=give, name="give memory back", daemon=True).start()


def _called(name: str, *numbers: int) -> int | None:
    """What a function of glibc's malloc returns; None where there is another malloc."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
    return int(function(*numbers))
