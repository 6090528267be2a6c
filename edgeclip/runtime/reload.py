"""A new configuration for a running service: checked whole, beside the one in force, before anything is swapped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from edgeclip.runtime.notify import sd_notify

T = TypeVar("T")


class Reload(Generic[T]):
    """ask() leaves a note; look(), called by the frame loop, starts a check on another thread.

    accept() reads the configuration, tries all of it that can be tried beside a running one, and returns it. Where it
    raises, the old one stays, and `refused` is told why. look() is True once a new one is accepted: the
    run then ends, and take() is what the next one is made of.
    """

    def __init__(
        self,
        accept: Callable[[], T],
        refused: Callable[[Exception], object],
        tell: Callable[..., object] = sd_notify,
    ) -> None:
        self._accept = accept
        self._refused = refused
        self._tell = tell
        self._asked = False
        self._checking: threading.Thread | None = None
        self._accepted: T | None = None

    def ask(self) -> None:
        self._asked = True

    def look(self) -> bool:
        if self._accepted is not None:
            return True
        if self._asked and (self._checking is None or not self._checking.is_alive()):
            self._asked = False
            self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            self._checking = threading.Thread(target=self._try, name="reload", daemon=True)
            self._checking.start()
        return False

    def take(self) -> T | None:
        """The accepted configuration, handed out once."""
        accepted, self._accepted = self._accepted, None
        return accepted

    def _try(self) -> None:
        try:
            accepted = self._accept()
        except Exception as error:  # whatever it is: the run in force goes on
            self._refused(error)
            self._tell("READY=1")
        else:
            self._accepted = accepted
