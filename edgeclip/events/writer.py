"""Puts events into the outbox on a thread of its own: the frame loop only appends to a bounded queue.

Where the disk is full, what is not yet on it waits here, in order, up to a bound; beyond it the newest are refused and
counted, the oldest kept. An event counts as acknowledged once `acknowledged` has counted it: then it is on disk.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from edgeclip.errors import reason_of
from edgeclip.events.event import Event
from edgeclip.events.outbox import Outbox

WAITING = 2000  # messages, about 2 MB
BATCH = 256
RETRY_S = 2.0
TIDY_S = 60.0
CLOCK_SET_MS = 2 * 60_000  # more than that between two looks: the wall clock was set
TURN_S = 0.01  # for the couriers, between two steps of forgetting
KEEP_S = 7 * 86_400.0  # messages that every sink has had


class Writer:
    """put() never waits. wake(): called after every commit. give_up_s: after which a message pending with a sink is
    dead. acknowledged, refused, failures: messages on disk, messages lost to a full queue, failed commits."""

    def __init__(
        self,
        outbox: Outbox,
        sinks: Sequence[str],
        wake: Callable[[], None],
        notify: Callable[[str], None],
        *,
        give_up_s: float,
        waiting: int = WAITING,
        retry_s: float = RETRY_S,
        tidy_s: float = TIDY_S,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.acknowledged = self.refused = self.failures = 0
        self._outbox, self._sinks, self._wake, self._notify = outbox, tuple(sinks), wake, notify
        self._give_up_s, self._limit, self._retry_s = give_up_s, waiting, retry_s
        self._waiting: deque[Event] = deque()
        self._something = threading.Event()
        self._stopping = threading.Event()
        self._failing = False
        self._alone = False  # one of the last batch cannot be written: which?
        self._tidy_s, self._wall_ns = tidy_s, wall_ns
        self._tidy_at_s = time.monotonic() + tidy_s  # what waited for this start is tried before it is given up
        self._clocks_apart_ms = self._now_ms() - time.monotonic_ns() // 1_000_000
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, event: Event) -> None:
        """Takes what is to be acknowledged later; refuses it where too many wait already."""
        if len(self._waiting) >= self._limit:
            self.refused += 1
            return
        self._waiting.append(event)
        self._something.set()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def stop(self, within_s: float) -> None:
        """Commit what waits, if the disk lets it, and end."""
        self._stopping.set()
        self._something.set()
        self._thread.join(within_s)
        if self._waiting:
            self._notify(f"{len(self._waiting)} event messages could not be put on disk, and are lost")

    def _run(self) -> None:
        while True:
            self._something.wait(self._tidy_s)
            self._something.clear()
            while self._waiting and self._commit():
                pass
            if self._stopping.is_set():
                return
            if self._waiting:
                self._stopping.wait(self._retry_s)
                self._something.set()
            elif time.monotonic() >= self._tidy_at_s:
                self._tidy_at_s = time.monotonic() + self._tidy_s
                self._tidy()

    def _commit(self) -> bool:
        """What waits, in one transaction; one message alone while there is hardly room."""
        count = min(len(self._waiting), 1 if self._failing or self._alone else BATCH)
        batch = [self._waiting[place] for place in range(count)]  # put() may append meanwhile
        try:
            self._outbox.add(batch, self._sinks)
        except (sqlite3.Error, OSError) as error:
            self.failures += 1
            if not self._failing:
                self._failing = True
                self._notify(
                    f"events cannot be put on disk ({reason_of(error)}): {len(self._waiting)} wait in memory, "
                    "tried again"
                )
            if "full" in str(error):
                self._make_room()
            return False
        except ValueError as error:  # no UTF-8 or JSON can be made of a text in it: it would stand in the way for ever
            self._alone = len(batch) > 1
            if not self._alone:
                self._waiting.popleft()
                self.refused += 1
                self._notify(f"the event message {batch[0].id} cannot be written, and is lost: {error}")
            return True
        self._alone = False
        for _ in batch:
            self._waiting.popleft()
        self.acknowledged += len(batch)
        if self._failing:
            self._failing = False
            self._notify(f"events are put on disk again; {self.refused} messages were refused so far")
        self._wake()
        return True

    def _tidy(self) -> None:
        now_ms = self._now_ms()
        set_by_ms = now_ms - time.monotonic_ns() // 1_000_000 - self._clocks_apart_ms
        try:
            if abs(set_by_ms) > CLOCK_SET_MS:
                self._outbox.clock_set(set_by_ms, now_ms)
                self._clocks_apart_ms += set_by_ms
            dead = self._outbox.expire(now_ms - round(self._give_up_s * 1000))
            while self._outbox.purge(now_ms - round(KEEP_S * 1000)):
                if self._stopping.wait(TURN_S):
                    break
        except (sqlite3.Error, OSError) as error:
            self.failures += 1
            self._notify(f"the outbox cannot be tidied: {error}")
            return
        if dead:
            self._notify(f"{dead} deliveries are given up after {self._give_up_s:.0f} s: `edgeclip events dead`")

    def _now_ms(self) -> int:
        return self._wall_ns() // 1_000_000

    def _make_room(self) -> None:
        """Forget the oldest that every sink has had, whatever its age; where there is none, what was given up."""
        now_ms = self._now_ms() + 1
        try:
            if not self._outbox.purge(now_ms) and (forgotten := self._outbox.purge(now_ms, dead=True)):
                self._notify(f"to make room, {forgotten} messages that had been given up are forgotten")
        except (sqlite3.Error, OSError):
            self.failures += 1
