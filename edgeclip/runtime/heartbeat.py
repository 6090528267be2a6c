"""What systemd and `systemctl status` are told of a run: ready, how it goes, and that the frame loop still turns.

The frame loop itself calls turn(), at least every fifth of a second and before each frame, so that an engine or a sink
that hangs stops the WATCHDOG=1 messages. A camera that is gone does not: the loop turns, and says what is missing.

Between two runs of one process (a reload, a bundle rolled back) no loop turns. The manager is then told once to wait
longer: what has not been closed, or set up, by then is hung, and ended as ever. A thread that went on feeding would
need the interpreter's lock, which engines keep while they load.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from edgeclip.runtime.notify import sd_notify, watchdog_timeout_s
from edgeclip.types import Decision, Frame, Source

STATUS_S = 5.0  # between two STATUS lines
OLD_S = 10.0  # a source without a decision for so long has no rate to show
BETWEEN_S = 90.0  # for one run to close all that it has; and as long again for the next one to begin


class Watched(Protocol):
    """A supervised source, as far as it is shown."""

    @property
    def source(self) -> Source: ...
    @property
    def state(self) -> str: ...
    @property
    def last_error(self) -> str | None: ...


class Heartbeat:
    """A sink, for the decisions, and the frame loop's pulse. write() and turn() come from different threads.

    ready_timeout_s: where no source gives a frame for so long after the start, the service is ready, and degraded.
    extra(): more for the STATUS line, like the temperature.
    """

    def __init__(
        self,
        tell: Callable[..., object] = sd_notify,
        *,
        watchdog_s: float | None = None,
        ready_timeout_s: float = 30.0,
        extra: Callable[[], str] = str,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.extra = extra
        self.ready = False  # once READY=1 was sent
        self.decided = 0  # decisions since begin()
        self.refused = ""  # why the last reload was
        self.ready_timeout_s = ready_timeout_s
        self._tell = tell
        self._clock_s = clock_s
        self._watchdog_s = watchdog_s or watchdog_timeout_s()
        self._between_runs = False
        self._fed_every_s = min((self._watchdog_s or STATUS_S) / 4.0, STATUS_S)
        self._bundle = ""
        self._feeds: Sequence[Watched] = ()
        self._latest: dict[str, tuple[Decision, float]] = {}
        self._began_s = clock_s()
        self._feed_at_s, self._status_at_s = 0.0, math.inf
        self._states: list[str] = []

    def begin(self, bundle: str, feeds: Sequence[Watched]) -> None:
        """A run is set up: its engine has passed the self-test, and its sources are open or being waited for."""
        self._bundle, self._feeds = bundle, feeds
        self._latest, self.decided = {}, 0
        self._began_s = self._clock_s()
        self._states, self._status_at_s = [feed.state for feed in feeds], self._began_s + 1.0
        self._tell("WATCHDOG=1", f"STATUS={bundle}: waiting for the first decision")

    def start_again(self, ready_timeout_s: float) -> None:
        """Another configuration: ready once it decides."""
        self.ready_timeout_s, self.ready, self.decided, self._feeds = ready_timeout_s, False, 0, ()
        self.refused = ""
        self._status_at_s = math.inf
        self._tell("WATCHDOG=1")

    def end(self) -> None:
        """The frame loop is over, and what it used is closed: that may take BETWEEN_S, and so may the next start."""
        if self._watchdog_s is not None and self._watchdog_s < BETWEEN_S:
            self._between_runs = True
            self._tell(f"WATCHDOG_USEC={round(BETWEEN_S * 1e6)}")
        self._tell("WATCHDOG=1")

    def open(self) -> None:
        return

    def close(self) -> None:
        return

    def write(self, decision: Decision, frame: Frame) -> None:
        self._latest[decision.source] = (decision, self._clock_s())
        self.decided += 1

    def turn(self) -> None:
        """The frame loop turns."""
        now_s = self._clock_s()
        if self._between_runs and self._watchdog_s is not None:
            self._between_runs = False
            self._tell(f"WATCHDOG_USEC={round(self._watchdog_s * 1e6)}")
        if not self.ready:
            self.ready = self._be_ready(now_s)
        if now_s >= self._feed_at_s:
            self._feed_at_s = now_s + self._fed_every_s
            self._tell("WATCHDOG=1")
        states = [feed.state for feed in self._feeds]
        if states != self._states or now_s >= self._status_at_s:
            self._states, self._status_at_s = states, now_s + STATUS_S
            self._tell(f"STATUS={self.status()}")

    def _be_ready(self, now_s: float) -> bool:
        if not self._feeds or not (self.decided or self._nobody_comes(now_s)):
            return False
        self._status_at_s = now_s + 1.0  # the first one knows no rate yet
        self._tell("READY=1", f"STATUS={self.status()}")
        return True

    def _nobody_comes(self, now_s: float) -> bool:
        """Away is not dead: a service that stayed "activating" could not be reloaded, and would hold up the boot."""
        return now_s - self._began_s >= self.ready_timeout_s and all(feed.state != "streaming" for feed in self._feeds)

    def degraded(self) -> list[str]:
        """What is missing: one text per source that gives no frames."""
        return [
            f"{feed.source.name} {feed.state}" + (f" ({feed.last_error})" if feed.last_error else "")
            for feed in self._feeds
            if feed.state not in ("streaming", "ended")
        ]

    def status(self) -> str:
        """One line: "nano: demo 29.9 fps, age 12 ms"; "degraded: ..." where a source is away."""
        now_s = self._clock_s()
        lost = self.degraded()
        parts = []
        for source, (decision, at_s) in sorted(self._latest.items()):
            if now_s - at_s < OLD_S:
                parts.append(f"{source} {decision.fps:.1f} fps, age {decision.age_ns / 1e6:.0f} ms")
        refused = f"reload refused: {self.refused}" if self.refused else ""
        told = "; ".join(filter(None, [*lost, *parts, self.extra(), refused])) or "no decision yet"
        return f"{'degraded: ' if lost else ''}{self._bundle}: {told}"
