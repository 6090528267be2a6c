"""Slows the run down, by stated steps, before the board does it for us; and counts what a frame costs in joules.

A board that throttles halves its clocks at a moment of its own; frame ages then jump, and nobody is told. Fewer frames
a second, said once, keep each of them on time.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from edgeclip.runtime.board import Board, Reading
from edgeclip.runtime.journal import INFO, WARNING, Notice

EVERY_S = 2.0
HYSTERESIS_C = 2.0  # below where a step began, before it ends
CALM_S = 20.0  # and for so long


@dataclass(frozen=True, slots=True)
class Step:
    """From `below_c` degrees below the limit on, `share` of the usual frame rate."""

    below_c: float
    share: float


STEPS = (Step(9.0, 0.75), Step(6.0, 0.5), Step(3.0, 0.25))


class Governor:
    """Which step is in force; 0 is none. Up at once, down one step at a time and not before it is calm."""

    def __init__(self, steps: Sequence[Step] = STEPS) -> None:
        self.level = 0
        self._steps = steps
        self._cool_since_s: float | None = None

    @property
    def share(self) -> float:
        return self._steps[self.level - 1].share if self.level else 1.0

    def update(self, margin_c: float, throttled: bool, now_s: float) -> bool:
        """Whether the level changed. margin_c: how far the board is below its limit. throttled: it has begun by itself,
        whatever its sensors say."""
        asked = sum(margin_c <= step.below_c for step in self._steps)
        asked = max(asked, 1) if throttled else asked
        if asked > self.level:
            self.level, self._cool_since_s = asked, None
            return True
        if asked == self.level or margin_c <= self._steps[self.level - 1].below_c + HYSTERESIS_C:
            self._cool_since_s = None
            return False
        if self._cool_since_s is None:
            self._cool_since_s = now_s
        if now_s - self._cool_since_s < CALM_S:
            return False
        self.level -= 1
        self._cool_since_s = None
        return True


class Paced(Protocol):
    """A lane whose frame rate can be limited. max_fps: None for all; taken: frames it has handed on so far."""

    max_fps: float | None
    taken: int


class Thermal:
    """Reads the board every two seconds on a thread of its own. Use as a context manager around the frame loop.

    limit_c: of every zone; None for each zone's own. Where there is neither, nothing is slowed.
    power_w, joules_per_frame: None until known, or where the board does not report its power.
    """

    def __init__(
        self,
        lanes: Sequence[Paced],
        notify: Callable[[str], object],
        *,
        limit_c: float | None = None,
        board: Board | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self.reading = Reading()
        self._board = board or Board()
        self._limit_c = limit_c
        self._governor = Governor()
        self._lanes = lanes
        self._notify = notify
        self._every_s = every_s
        self._usual_fps = [0.0] * len(lanes)  # measured while nothing is slowed
        self._taken = [lane.taken for lane in lanes]
        self._first_taken = sum(self._taken)
        self._read_at_s: float | None = None
        self._energy_j = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="thermal", daemon=True)

    def __enter__(self) -> Thermal:
        if self._board.can_be_read:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    @property
    def level(self) -> int:
        return self._governor.level

    @property
    def power_w(self) -> float | None:
        return self.reading.power_w

    @property
    def joules_per_frame(self) -> float | None:
        """Of the whole board, over the run so far."""
        frames = sum(lane.taken for lane in self._lanes) - self._first_taken
        return self._energy_j / frames if frames and self._energy_j else None

    def __str__(self) -> str:
        """For the STATUS line: "71 °C, 1/2 of the frame rate, 7.2 W, 0.61 J a frame"; "" where nothing is known."""
        parts = []
        if self.reading.hottest is not None:
            parts.append(f"{self.reading.hottest.temperature_c:.0f} °C")
        if self.level:
            parts.append(f"{self._governor.share:.0%} of the frame rate")
        if self.reading.throttled:
            parts.append("the board throttles")
        if self.power_w is not None:
            parts.append(f"{self.power_w:.1f} W")
        joules = self.joules_per_frame
        if joules is not None:
            parts.append(f"{joules:.2f} J a frame")
        return ", ".join(parts)

    def look(self, now_s: float) -> None:
        """One reading, and what follows from it."""
        self.reading = reading = self._board.read()
        since_s = 0.0 if self._read_at_s is None else now_s - self._read_at_s
        self._read_at_s = now_s
        self._energy_j += (reading.power_w or 0.0) * since_s
        self._note_rates(since_s)
        margins = [
            (limit_c - zone.temperature_c, limit_c, zone)
            for zone in reading.zones
            if (limit_c := self._limit_c if self._limit_c is not None else zone.passive_c) is not None
        ]
        margin_c, limit_c, zone = min(margins, key=lambda margin: margin[0], default=(math.inf, 0.0, None))
        before = self.level
        changed = self._governor.update(margin_c, bool(reading.throttled), now_s)
        self._slow()
        if changed:
            self._say(before, f"{zone.name} {zone.temperature_c:.0f} °C, limit {limit_c:.0f} °C" if zone else "")

    def _note_rates(self, since_s: float) -> None:
        for number, lane in enumerate(self._lanes):
            fps = (lane.taken - self._taken[number]) / since_s if since_s > 0 else 0.0
            if lane.max_fps is None and fps > 0.0:
                usual_fps = self._usual_fps[number]
                self._usual_fps[number] = fps if usual_fps == 0.0 else usual_fps + 0.2 * (fps - usual_fps)
            self._taken[number] = lane.taken

    def _slow(self) -> None:
        for lane, usual_fps in zip(self._lanes, self._usual_fps, strict=True):
            lane.max_fps = max(usual_fps * self._governor.share, 0.1) if self.level and usual_fps > 0 else None

    def _say(self, before: int, where: str) -> None:
        throttles = f"the board throttles ({', '.join(self.reading.throttled)})" if self.reading.throttled else ""
        rates = ", ".join(f"{lane.max_fps:.1f}" for lane in self._lanes if lane.max_fps is not None)
        now = f"{self._governor.share:.0%} of the usual frame rate{f' ({rates} a second)' if rates else ''}"
        told = f"{'; '.join(filter(None, (where, throttles)))}: {now if self.level else 'the usual frame rate again'}"
        priority = WARNING if self.level > before else INFO
        self._notify(Notice(told, priority, EDGECLIP_THERMAL_LEVEL=str(self.level)))

    def _watch(self) -> None:
        self.look(time.monotonic())
        while not self._over.wait(self._every_s):
            self.look(time.monotonic())
