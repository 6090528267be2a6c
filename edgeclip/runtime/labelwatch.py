"""Watches the file that says what to look for. Good edits are made ready for frames, bad ones are refused aloud."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from edgeclip.errors import EdgeclipError

LOOK_S = 0.25

Content = TypeVar("Content")
ContentRead = TypeVar("ContentRead", covariant=True)
Ready = TypeVar("Ready")


class Edits(Protocol[ContentRead]):
    """A file: the new content after an edit, None where nothing changed. Raises EdgeclipError for a bad edit."""

    def poll(self) -> ContentRead | None: ...


class LabelWatch(Generic[Content, Ready]):
    """Reads and embeds on a thread of its own, so that frames do not wait. Use as a context manager.

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
    ) -> None:
        self.fresh: deque[Ready] = deque(maxlen=1)
        self._edits = edits
        self._embed = embed
        self._notify = notify
        self._every_s = every_s
        self._kind = kind
        self._describe = describe
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
            if content is not None:
                self.fresh.append(self._embed(content))
                self._notify(f"{self._kind} changed: {self._describe(content)} in force")
        except Exception as error:  # whatever it is: the next edit is looked at as this one was
            fix = f" ({error.hint})" if isinstance(error, EdgeclipError) and error.hint else ""
            self._notify(f"{self._kind} not changed, the old ones stay: {str(error) or type(error).__name__}{fix}")
