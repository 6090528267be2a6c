"""Keeps frames coming: the one place that retries, backs off, reconnects and finds stalls, for every source."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Literal

from edgeclip.errors import EdgeclipError, SourceError
from edgeclip.runtime.box import Box
from edgeclip.runtime.connection import Connection
from edgeclip.runtime.outage import MAX_STUCK, STEADY_S, Outage, reminder_s, stuck_pause_s
from edgeclip.types import Frame, Source

State = Literal["connecting", "streaming", "lost", "ended"]

LONGEST_STALL_S = 300.0  # some cameras announce rates of a frame in hours, and run at thirty a second
CLOSE_S = 1.0  # for readers to end by themselves
POLL_S = 0.1  # how soon stop(), a stall and an error are noticed while no frame comes


class Supervisor:
    """Frames of the source that `open_source()` constructs, until it ends or stop() is called.

        with Supervisor(lambda: sources.open_source(uri)) as supervisor:
            for frame in supervisor.frames(): ...

    A live source is read by a thread of its own; only the newest frame is kept, older ones are counted in `drops`.
    When it fails or gives nothing for stall_timeout_s (for slow cameras: three frame times), it is left, even if its
    read never returns, and a fresh one is opened, with growing, jittered pauses, until it is back (outage.py).
    A file is read a little ahead; every frame comes, in order, and its errors are raised.

    Entering opens the source and raises its SourceError or DataError if it cannot be opened; with `wait`, a live
    source is waited for instead. A file played in real time is never retried.
    on_event: called with one line when the source is lost, still lost (reminder_s()), for another reason (silence_s())
    or back; the last one of them is always true within STEADY_S.

    state, last_error: for display. drops: frames replaced by newer ones before they were used.
    reconnects: how often the source came back; its first coming is none.
    source: what is being read, with its name and rate.
    stuck_at_s: since when (monotonic clock) so many reads hang in the driver that new ones are rare; None: not so.
    """

    def __init__(
        self,
        open_source: Callable[[], Source],
        *,
        stall_timeout_s: float = 4.25,
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
        self.stuck_at_s: float | None = None
        self._connection: Connection | None = None
        self._left: list[Connection] = []  # abandoned, their readers not yet done
        self._drops: tuple[int, Box[Frame] | None] = (0, None)  # of earlier connections; and the box of this one
        self._next_index = 0
        self._outage = Outage()
        self._ever_streamed = False
        self._tried_at_s = 0.0  # the last opening
        self._retry_at_s = 0.0
        self._lost_at_s = 0.0  # its last loss, or where it never came, the first try
        self._streaming_at_s = 0.0  # when the connection gave its first frame
        self._event_at: dict[State, float] = {}
        self._unsaid = False  # that it is back
        self._reason_told: str | None = None  # why it is gone; None: that it is gone was not told

    @property
    def drops(self) -> int:
        before, box = self._drops  # at once: other threads ask, while a connection is left
        return before + (box.discarded if box is not None else 0)

    @property
    def stuck(self) -> int:
        """How many abandoned reads have not returned."""
        return sum(connection.running for connection in self._left)

    def __enter__(self) -> Supervisor:
        connection = self._connect()
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
        self.abandon()
        self.join(time.monotonic() + CLOSE_S)

    def abandon(self) -> None:
        """End for good, at once: the reader closes the source on its own thread, when its driver lets it."""
        self.stop()
        self.state = "ended"
        self._leave()

    def join(self, deadline_s: float) -> None:
        """After abandon(): wait for the readers, until time.monotonic() reaches deadline_s."""
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
                elif self._unsaid:
                    self._note_steady()
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
        limit_s = max(self._stall_timeout_s, min(3.0 / fps, LONGEST_STALL_S) if fps else 0.0)
        idle_s = (time.monotonic_ns() - connection.active_ns) / 1e9
        if idle_s >= limit_s:
            raise SourceError(f"{connection.source.name}: no frame for {idle_s:.0f} s")

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
        if self.state == "streaming" or not self._lost_at_s:
            self._lost_at_s = now_s
        gave_s = self._leave()
        delay_s = self._outage.lost(now_s, gave_s)
        self._retry_at_s = now_s + delay_s
        self.state = "lost"
        self.last_error = error.message
        least_s = reminder_s(now_s - self._lost_at_s) if error.message == self._reason_told else 0.0
        what = "lost" if self._ever_streamed else "not there yet"
        if self._tell(f"{what}: {error.message}; retrying in {delay_s:.1f} s", least_s):
            self._reason_told = error.message

    def _pause_or_connect(self) -> None:
        now_s = time.monotonic()
        if now_s < self._retry_at_s:
            time.sleep(min(POLL_S, self._retry_at_s - now_s))
            return
        self._left = [connection for connection in self._left if connection.running]
        stuck = len(self._left)
        self.stuck_at_s = None if stuck < MAX_STUCK else self.stuck_at_s or now_s
        if now_s < self._tried_at_s + stuck_pause_s(stuck):
            self._fail(SourceError(f"{self.source.name}: {stuck} earlier reads still hang in the driver"))
            return
        self.source = self._open_source()
        self._connect()

    def _connect(self) -> Connection:
        self._tried_at_s = time.monotonic()
        connection = self._connection = Connection(self.source, self._next_index)
        self._drops = self._drops[0], connection.box
        return connection

    def _note_streaming(self) -> None:
        was_lost, was_here = self.state == "lost", self._ever_streamed
        self.state, self._ever_streamed, self.stuck_at_s = "streaming", True, None
        self._reason_told = None
        self._streaming_at_s = time.monotonic()
        self.reconnects += was_lost and was_here
        if was_lost:
            what = "back" if was_here else "there"
            told = self._tell(f"{self.source.name} is {what} after {self._streaming_at_s - self._lost_at_s:.1f} s")
            self._unsaid = not told

    def _note_steady(self) -> None:
        """It came back too often for each time to be told; so that the last line is not that it is lost."""
        held_s = time.monotonic() - self._streaming_at_s
        if held_s >= STEADY_S:
            self._unsaid = False
            if self._on_event:
                self._on_event(f"{self.source.name} is back, and has been for {held_s:.0f} s")

    def _leave(self) -> float:
        """For how many seconds the connection gave frames."""
        connection, self._connection = self._connection, None
        if connection is None:
            return 0.0
        connection.abandon()
        self._drops = self._drops[0] + connection.box.discarded, None
        self._next_index = connection.next_index
        self._left = [*self._left, connection]
        return connection.gave_s

    def _tell(self, event: str, least_s: float = 0.0) -> bool:
        """Whether it was told, and not too soon after the last one of its kind, at least least_s."""
        now_s = time.monotonic()
        if now_s - self._event_at.get(self.state, -math.inf) < max(least_s, self._outage.silence_s(now_s)):
            return False
        self._event_at[self.state] = now_s
        if self._on_event:
            self._on_event(event)
        return True
