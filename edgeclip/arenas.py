"""What glibc keeps of a process's memory that is to run for months: how many heaps, and what is free in them."""

from __future__ import annotations

import ctypes

ARENAS = 2  # the frame loop's and one for all the others
M_ARENA_MAX = -8  # mallopt(3)


def limit_arenas(count: int = ARENAS) -> bool:
    """Let threads share `count` heaps; to be called before there are threads. False where malloc is not glibc's.

    Every thread may otherwise have one of its own, up to eight a processor, and none is given back to the system. A
    camera's decoder starts new threads with every reconnect, whose heaps fill up one after the other: measured over
    an hour of faults, 10 MB (benchmarks/LOG.md).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_ARENA_MAX, count))


def give_back() -> bool:
    """Give free pages in the middle of heaps back to the system: glibc does so at their ends alone, and what cameras'
    decoders allocate with every reconnect never falls into the same gaps. Takes milliseconds. False: not glibc's."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return False
    trim(0)
    return True
