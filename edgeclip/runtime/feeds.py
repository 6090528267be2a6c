"""The supervised sources of a run, and of the runs after it: a reload that changes nothing about one leaves it open."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple

from edgeclip.errors import SourceError
from edgeclip.runtime.journal import WARNING, Notice
from edgeclip.runtime.sources import open_source
from edgeclip.runtime.supervisor import CLOSE_S, Supervisor
from edgeclip.types import Source

STALL_S, CONNECT_S = 4.25, 15.0  # that a source is waited for at least; longer where its own timeouts are
STUCK_S = 300.0  # so long without a frame from any source, with one in its driver: a new process may be better off


class Wanted(NamedTuple):
    """A source, and how it is to be read: open_source()'s arguments, and whether it is waited for at the start."""

    uri: str
    fps: float | None
    realtime: bool
    open_timeout_s: float
    read_timeout_s: float
    wait: bool


class Feeds:
    """Use as a context manager around one run, or several: supervised(), open(), the run, rest(), and so again.

    notify: told when a source is lost, or back.
    """

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._kept: dict[tuple[Wanted, int], Supervisor] = {}  # with the number among sources of one name
        self._asked: dict[tuple[Wanted, int], Supervisor] = {}

    def supervised(self, wanted: Sequence[Wanted]) -> list[Supervisor]:
        """In that order: those that were kept, and new ones, not opened: a misspelt source is found before an engine
        is loaded. Raises what open_source() raises."""
        keys = list(zip(wanted, _numbers(wanted), strict=True))
        self._asked = {key: self._kept.get(key) or self._new(*key) for key in keys}
        return list(self._asked.values())

    def open(self) -> None:
        """Open what supervised() returned last; close what is no longer asked for. Raises SourceError, DataError."""
        self._close(set(self._kept) - set(self._asked))
        for key, feed in self._asked.items():
            if key in self._kept:
                feed.resume()
            else:
                feed.__enter__()
                self._kept[key] = feed

    def rest(self) -> None:
        """A run is over. What is live stays open for the next one; a film begins anew in it."""
        self._close({key for key, feed in self._kept.items() if not feed.source.live or feed.state == "ended"})

    def check_help(self) -> None:
        """Raises SourceError where no source gives frames and nothing this process does is likely to change that:
        the driver of one has swallowed as many reads as it may for STUCK_S. While another one gives frames, that counts
        for more, and the stuck one is tried ever less often (outage.py)."""
        if any(feed.state == "streaming" for feed in self._asked.values()):
            return
        latest_s = time.monotonic() - STUCK_S
        for feed in self._asked.values():
            if feed.stuck_at_s is not None and feed.stuck_at_s <= latest_s:
                raise SourceError(
                    f"{feed.source.name}: {feed.stuck} reads hang in the driver, and no source gives frames",
                    "a new process may free it; if not, switch the camera off and on, or restart the machine",
                )

    def __enter__(self) -> Feeds:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._close(set(self._kept))

    def _close(self, keys: set[tuple[Wanted, int]]) -> None:
        """All at once: a camera that hangs in its driver holds up none of the others."""
        leaving = [self._kept.pop(key) for key in keys]
        for feed in leaving:
            feed.abandon()
        deadline_s = time.monotonic() + CLOSE_S
        for feed in leaving:
            feed.join(deadline_s)

    def _new(self, wanted: Wanted, number: int) -> Supervisor:
        def construct() -> Source:
            source = _constructed(wanted)
            source.name = f"{source.name} #{number}" if number > 1 else source.name
            return source

        def tell(text: str) -> None:
            self._notify(Notice(text, WARNING, EDGECLIP_SOURCE=feed.source.name))

        feed = Supervisor(
            construct,
            # A source that is left before it gives up by itself would hang in its read, and have no reason to tell.
            stall_timeout_s=max(STALL_S, 2.0 * wanted.read_timeout_s + 0.25),
            connect_timeout_s=max(CONNECT_S, wanted.open_timeout_s + 5.0),
            wait=wanted.wait,
            on_event=tell,
        )
        return feed


def _numbers(wanted: Sequence[Wanted]) -> list[int]:
    """1 for the first source of a name, 2 for the second. What is secret is not in a name, so that two cameras behind
    one recorder (rtsp://nvr/live?channel=1, ?channel=2) may have the same."""
    seen: Counter[str] = Counter()
    numbers = []
    for one in wanted:
        name = _constructed(one).name if len(wanted) > 1 else one.uri
        seen[name] += 1
        numbers.append(seen[name])
    return numbers


def _constructed(wanted: Wanted) -> Source:
    return open_source(
        wanted.uri,
        fps=wanted.fps,
        realtime=wanted.realtime,
        open_timeout_s=wanted.open_timeout_s,
        read_timeout_s=wanted.read_timeout_s,
    )
