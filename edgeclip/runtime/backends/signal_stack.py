"""The stack that a thread's signal handlers run on, kept as it was while a library is loaded that replaces it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager


class Stack(ctypes.Structure):
    """stack_t of sigaltstack(2), on Linux."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """OpenVINO gives the thread a signal stack with each engine, and the one before back with each engine's end.

    Where the older of two engines goes first, that one is freed already: the next SIGTERM or SIGHUP, whose handler runs
    on it, would be a segmentation fault.
    """
    library, before = ctypes.CDLL(None), Stack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)
