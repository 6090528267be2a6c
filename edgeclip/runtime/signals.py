"""What a running process is asked by signals. Handlers only leave a note: the frame loop reads it between frames."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from edgeclip.errors import UNAVAILABLE, EdgeclipError


class DrainError(EdgeclipError):
    """What was left for the sinks was not taken in time."""

    exit_code = UNAVAILABLE


class StoppedInStart(BaseException):
    """A stop was asked for, and a start that takes long has not come to where it looks. No Exception, so that nobody on
    the way takes it for a failure of the engine or the source that was being loaded."""


class StopSignals:
    """While entered, SIGINT and SIGTERM only set a flag: call it to ask. The second one acts as it always did.

    drain_timeout_s: raise DrainError in the main thread when the process is still there so long after the first;
    while `starting`, when nothing is there to be drained, StoppedInStart.
    """

    def __init__(self, drain_timeout_s: float | None = None) -> None:
        self.drain_timeout_s = drain_timeout_s
        self.starting = False
        self._asked = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self._asked

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._restore()
        if self._asked and self.drain_timeout_s is not None:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self._restore()
        if self.drain_timeout_s is not None:
            signal.signal(signal.SIGALRM, self._give_up)
            signal.setitimer(signal.ITIMER_REAL, self.drain_timeout_s, 1.0)  # again for each further one that hangs

    def _give_up(self, number: int, frame: FrameType | None) -> None:
        if self.starting:
            raise StoppedInStart
        raise DrainError(
            f"stopped after {self.drain_timeout_s:g} s with a sink still not done",
            "look at what it writes to, or raise drain_timeout_s",
        )

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


class ReloadSignal:
    """While entered, SIGHUP only leaves a note, which take() hands out once."""

    def __init__(self) -> None:
        self._noted = False
        self._before: Any = None

    def take(self) -> bool:
        if not self._noted:
            return False
        self._noted = False
        return True

    def __enter__(self) -> ReloadSignal:
        self._before = signal.signal(signal.SIGHUP, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        signal.signal(signal.SIGHUP, self._before)
