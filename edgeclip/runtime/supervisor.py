"""Keeps frames coming: the one place that retries, backs off, reconnects and finds stalls, for every source."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Literal

from edgeclip.errors import EdgeclipError, SourceError
from edgeclip.runtime.connection import Connection
from edgeclip.types import Frame, Source

State = Literal["connecting", "streaming", "lost", "ended"]

POLL_S = 0.1  # how soon stop(), a stall and an error are noticed while no frame comes
FIRST_DELAY_S = 0.5
SHORT_DELAY_S = 0.6  # longest wait in the first half minute, so that a camera's return is seen within three seconds
LONGEST_DELAY_S = 30.0
STEADY_S = 10.0  # a connection that held this long ends the outage before it; shorter ones are the same outage
MAX_STUCK = 4  # readers that hang in a driver; another would hang as well
EVENT_INTERVAL_S, LONGEST_SILENCE_S = 1.0, 3600.0  # between two lines about the same outage


class Supervisor:
    """Frames of the source that `open_source()` constructs, until it ends or stop() is called.

        with Supervisor(lambda: sources.open_source(uri)) as supervisor:
            for frame in supervisor.frames(): ...

    A live source is read by a thread of its own; only the newest frame is kept, older ones are counted in `drops`.
    When it fails or gives nothing for stall_timeout_s (for slow cameras: three frame times), it is left, even if its
    read never returns, and a fresh one is opened, with growing, jittered pauses, until it is back.
    A file is read a little ahead; every frame comes, in order, and its errors are raised.

    Entering opens the source and raises its SourceError or DataError if it cannot be opened; with `wait`, a live
    source is waited for instead. A file played in real time is never retried.
    on_event: called with one line when the source is lost, still lost (see silence_s()) or back.

    state, last_error: for display. drops: frames replaced by newer ones before they were used.
    reconnects: how often the source came back; its first coming is none.
    source: what is being read, with its name and rate.
    """

    def __init__(
        self,
        open_source: Callable[[], Source],
        *,
        stall_timeout_s: float = 4.5,
        connect_timeout_s: float = 15.0,
        wait: bool = False,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self.state: State = "connecting"
        self.last_error: str | None = None
        self.reconnects = 0
        self.source = open_source()
        self._open_source = open_source
        self._stall_timeout_s = stall_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._wait = wait
        self._on_event = on_event
        self._retries = self.source.live and not self.source.paced
        self._stopped = False
        self._connection: Connection | None = None
        self._left: list[Connection] = []  # abandoned, their readers not yet done
        self._drops = 0  # of earlier connections
        self._next_index = 0
        self._attempt = 0
        self._ever_streamed = False
        self._retry_at_s = 0.0
        self._outage_at_s: float | None = None  # its first loss, until the source is steady again
        self._lost_at_s = 0.0  # its last loss
        self._streaming_at_s = 0.0  # when the connection gave its first frame
        self._event_at: dict[State, float] = {}

    @property
    def drops(self) -> int:
        return self._drops + (self._connection.box.discarded if self._connection else 0)

    def __enter__(self) -> Supervisor:
        connection = self._connection = Connection(self.source, 0)
        if self._wait and self._retries:
            return self
        try:
            while not (connection.opened.wait(POLL_S) or connection.box.exhausted or self._stopped):
                self._check_connect_time(connection)
            if connection.error is not None and not connection.opened.is_set():
                raise connection.error
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self.state = "ended"
        self._leave()
        deadline_s = time.monotonic() + 1.0
        for connection in self._left:
            connection.join(max(0.0, deadline_s - time.monotonic()))

    def stop(self) -> None:
        """End frames() within a fifth of a second. Safe from any thread and from a signal handler."""
        self._stopped = True

    def resume(self) -> None:
        """After a stop(), and once frames() has ended, frames() may be called again: the source is still open."""
        self._stopped = False

    def frames(self) -> Iterator[Frame]:
        """Frames, oldest first. Raises what the source raised, where it is not retried."""
        while not self._stopped:
            connection = self._connection
            if connection is None:
                self._pause_or_connect()
                continue
            frame = connection.box.get(POLL_S)
            if frame is not None:
                if self.state != "streaming":
                    self._note_streaming()
                yield frame
            elif connection.box.exhausted:
                if connection.error is None:
                    break
                self._fail(connection.error)
            elif self._retries:
                try:
                    self._check_progress(connection)
                except SourceError as stall:
                    self._fail(stall)
        if not self._stopped:
            self.state = "ended"
            self._leave()

    def _check_progress(self, connection: Connection) -> None:
        """Raise SourceError when the reader hangs."""
        if not connection.opened.is_set():
            self._check_connect_time(connection)
            return
        fps = connection.source.fps
        limit_s = max(self._stall_timeout_s, 3.0 / fps if fps else 0.0)
        idle_s = (time.monotonic_ns() - connection.active_ns) / 1e9
        if idle_s >= limit_s:
            raise SourceError(f"{connection.source.name}: no frame for {idle_s:.1f} s")

    def _check_connect_time(self, connection: Connection) -> None:
        waited_s = (time.monotonic_ns() - connection.started_ns) / 1e9
        if self._retries and waited_s >= self._connect_timeout_s:
            raise SourceError(
                f"{connection.source.name}: no answer for {waited_s:.0f} s", "check that the device is on and reachable"
            )

    def _fail(self, error: BaseException) -> None:
        """Leave a live source and plan to open it again; raise the error of any other."""
        if not self._retries or not isinstance(error, EdgeclipError):
            self.state = "ended"
            self._leave()
            raise error
        now_s = time.monotonic()
        if self.state == "streaming":
            if now_s - self._streaming_at_s >= STEADY_S:
                self._outage_at_s = None
            self._lost_at_s = now_s
        self._leave()
        if self._outage_at_s is None:
            self._outage_at_s, self._lost_at_s, self._attempt = now_s, now_s, 0
        delay_s = retry_delay_s(self._attempt, now_s - self._outage_at_s)
        self._attempt += 1
        self._retry_at_s = now_s + delay_s
        self.state = "lost"
        self.last_error = error.message
        what = "lost" if self._ever_streamed else "not there yet"
        self._tell(f"{what}: {error.message}; retrying in {delay_s:.1f} s")

    def _pause_or_connect(self) -> None:
        remaining_s = self._retry_at_s - time.monotonic()
        if remaining_s > 0:
            time.sleep(min(POLL_S, remaining_s))
            return
        self._left = [connection for connection in self._left if connection.running]
        if len(self._left) >= MAX_STUCK:
            self._fail(SourceError(f"{self.source.name}: {len(self._left)} earlier reads still hang in the driver"))
            return
        self.source = self._open_source()
        self._connection = Connection(self.source, self._next_index)

    def _note_streaming(self) -> None:
        was_lost, was_here = self.state == "lost", self._ever_streamed
        self.state, self._ever_streamed = "streaming", True
        self._streaming_at_s = time.monotonic()
        self.reconnects += was_lost and was_here
        if was_lost:
            what = "back" if was_here else "there"
            self._tell(f"{self.source.name} is {what} after {self._streaming_at_s - self._lost_at_s:.1f} s")

    def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._drops += connection.box.discarded
            self._next_index = connection.next_index
            connection.abandon()
            self._left.append(connection)

    def _tell(self, event: str) -> None:
        now_s = time.monotonic()
        lasting_s = now_s - self._outage_at_s if self.state == "lost" and self._outage_at_s is not None else 0.0
        if self._on_event and now_s - self._event_at.get(self.state, -math.inf) >= silence_s(lasting_s):
            self._event_at[self.state] = now_s
            self._on_event(event)


def silence_s(outage_s: float) -> float:
    """Seconds between two lines about an outage that has lasted outage_s: one at first, then a twentieth of it, to an
    hour, so that a camera that is dead for months does not fill the journal."""
    return min(max(EVENT_INTERVAL_S, outage_s / 20.0), LONGEST_SILENCE_S)


def retry_delay_s(attempt: int, outage_s: float) -> float:
    """Seconds to wait before retry number `attempt` (from 0) of an outage that has lasted outage_s.

    From 0.5 s to 1.2 s in the first minute, then a fiftieth of the outage so far, so exponentially, to 30 s;
    +-25 % of jitter keeps many devices from calling in step.
    """
    ceiling_s = max(SHORT_DELAY_S, outage_s / 50.0)
    delay_s = min(FIRST_DELAY_S * 2.0 ** min(attempt, 16), ceiling_s)
    return min(delay_s * random.uniform(0.75, 1.25), LONGEST_DELAY_S)
