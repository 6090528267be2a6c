"""Watches the label file while the camera runs. Good edits become text banks, bad ones are refused aloud."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from edgeclip.errors import EdgeclipError
from edgeclip.types import Label, TextBank

LOOK_S = 0.5


class Edits(Protocol):
    """A label file: the new labels after an edit, None where nothing changed. Raises EdgeclipError for a bad edit."""

    def poll(self) -> tuple[Label, ...] | None: ...


class LabelWatch:
    """Reads and embeds on a thread of its own, so that frames do not wait. Use as a context manager.

    fresh: the newest bank that nobody has taken; the frame loop takes it between two frames.
    """

    def __init__(
        self,
        edits: Edits,
        embed: Callable[[tuple[Label, ...]], TextBank],
        notify: Callable[[str], None],
        every_s: float = LOOK_S,
    ) -> None:
        self.fresh: TextBank | None = None
        self._edits = edits
        self._embed = embed
        self._notify = notify
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="label-watch", daemon=True)

    def take(self) -> TextBank | None:
        """The fresh bank, handed out once."""
        if self.fresh is None:
            return None
        fresh, self.fresh = self.fresh, None
        return fresh

    def __enter__(self) -> LabelWatch:
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
            labels = self._edits.poll()
            if labels is not None:
                self.fresh = self._embed(labels)
                self._notify(f"labels changed: {len(labels)} in force")
        except EdgeclipError as error:
            fix = f" ({error.hint})" if error.hint else ""
            self._notify(f"labels not changed, the old ones stay: {error.message}{fix}")
