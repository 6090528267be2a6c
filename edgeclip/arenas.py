"""What glibc keeps of a process's memory that is to run for months: how many heaps, what is in them, what is free."""

from __future__ import annotations

import ctypes
import threading
import time

ARENAS = 2  # the frame loop's and one for all the others
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # mallopt(3)
APART_BYTES = 128 << 10  # glibc's own beginning, which it raises to the size of what was freed
GIVE_BACK_S = 60.0


def limit_arenas(count: int = ARENAS) -> bool:
    """Let threads share `count` heaps; to be called before there are threads. False where malloc is not glibc's.

    Every thread may otherwise have one of its own, up to eight a processor, and none is given back to the system. A
    camera's decoder starts new threads with every reconnect, whose heaps fill up one after the other: measured over
    an hour of faults, 10 MB (benchmarks/LOG.md).
    """
    return bool(_called("mallopt", M_ARENA_MAX, count))


def keep_frames_apart(size: int = APART_BYTES) -> bool:
    """Give what is larger than `size` bytes, as frames are, memory of its own, which goes back to the system whole.

    glibc begins like that and then changes its mind: once one frame was freed, those of its size come out of the heap,
    among small things that stay. With every reconnect the gaps come to lie differently, and the heap grows. It costs a
    page fault for every 4 KB of a frame, which a camera's 25 a second bear and a film read as fast as it goes does not
    (benchmarks/LOG.md). False where malloc is not glibc's.
    """
    return bool(_called("mallopt", M_MMAP_THRESHOLD, size))


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
