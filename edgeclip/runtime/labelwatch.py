"""Watches the file that says what to look for. Good edits are made ready for frames, bad ones are refused aloud."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from edgeclip.errors import ConfigError, DataError, EdgeclipError, UsageError

LOOK_S = 0.25
PAUSE_S, LONGEST_PAUSE_S = (
    15.0,
    900.0,
)  # before a good edit that could not be made ready is tried again; doubled each time
WRONG = (DataError, UsageError, ConfigError)  # the edit's own fault, which only another edit mends

Content = TypeVar("Content")
ContentRead = TypeVar("ContentRead", covariant=True)
Ready = TypeVar("Ready")


class Edits(Protocol[ContentRead]):
    """A file: the new content after an edit, None where nothing changed. Raises EdgeclipError for a bad edit, once.

    well: False from then until the file can be read and is good.
    """

    well: bool

    def poll(self) -> ContentRead | None: ...


class LabelWatch(Generic[Content, Ready]):
    """Reads and embeds on a thread of its own, so that frames do not wait. Use as a context manager.

    A good edit that cannot be made ready, as for lack of memory, is tried again until it can, or there is another.

    embed: makes content ready for frames. describe: what is in force then, for the notice. kind: "labels", "watches".
    fresh: the newest that is ready and that nobody has taken, where there is one; the frame loop takes it between two
    frames.
    """

    def __init__(
        self,
        edits: Edits[Content],
        embed: Callable[[Content], Ready],
        notify: Callable[[str], None],
        every_s: float = LOOK_S,
        *,
        kind: str = "labels",
        describe: Callable[[Any], str] = lambda content: str(len(content)),
        pause_s: float = PAUSE_S,
    ) -> None:
        self.fresh: deque[Ready] = deque(maxlen=1)
        self._edits = edits
        self._embed = embed
        self._notify = notify
        self._every_s = every_s
        self._kind = kind
        self._describe = describe
        self._pause_s = pause_s
        self._waiting: Content | None = None  # a good edit that is to be tried again
        self._failures = 0
        self._again_at_s = 0.0
        self._complained = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"{kind}-watch", daemon=True)

    def take(self) -> Ready | None:
        """What is fresh, handed out once."""
        return self.fresh.pop() if self.fresh else None

    def __enter__(self) -> LabelWatch[Content, Ready]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(timeout=5.0)

    def _watch(self) -> None:
        while not self._over.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        try:
            content = self._edits.poll()
        except Exception as error:  # whatever it is: the next edit is looked at as this one was
            self._complained = True
            self._notify(f"{self._kind} not changed, the old ones stay: {_told(error)}")
            return
        if self._complained and self._edits.well:
            self._complained = False
            if content is None:
                self._notify(f"{self._kind}: the file is well again, and says what is in force")
        if content is not None:
            self._waiting, self._failures = content, 0
        elif self._waiting is None or time.monotonic() < self._again_at_s:
            return
        self._make_ready(self._waiting)

    def _make_ready(self, content: Any) -> None:
        try:
            self.fresh.append(self._embed(content))
        except Exception as error:
            if isinstance(error, WRONG):
                self._waiting = None
                self._notify(f"{self._kind} not changed, the old ones stay: {_told(error)}")
                return
            self._again_at_s = time.monotonic() + min(self._pause_s * 2.0 ** min(self._failures, 16), LONGEST_PAUSE_S)
            self._failures += 1
            if self._failures == 1:
                self._notify(f"{self._kind} not changed yet, the old ones stay until it can be done: {_told(error)}")
            return
        tried = f", at try {self._failures + 1}" if self._failures else ""
        self._waiting = None
        self._notify(f"{self._kind} changed: {self._describe(content)} in force{tried}")


def _told(error: Exception) -> str:
    fix = f" ({error.hint})" if isinstance(error, EdgeclipError) and error.hint else ""
    return f"{str(error) or type(error).__name__}{fix}"
