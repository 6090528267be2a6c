"""How fast decisions come, and how old the frames were when they were decided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

KEPT = 8192  # ages the percentiles are taken from: the newest ones, so that a year-long run needs no more memory


class Rate:
    """Decisions per second, smoothed over about a second."""

    def __init__(self) -> None:
        self._last_ns = 0
        self._interval_s = 0.0
        self._count = 0

    def tick(self, now_ns: int) -> float:
        """Count one decision; the rate so far, 0.0 until there are two."""
        step_s = (now_ns - self._last_ns) / 1e9
        self._last_ns = now_ns
        self._count += 1
        if self._count < 2 or step_s <= 0.0:
            return 0.0 if self._interval_s == 0.0 else 1.0 / self._interval_s
        share = max(1.0 - math.exp(-step_s), 1.0 / (self._count - 1))  # a plain mean at first
        self._interval_s += share * (step_s - self._interval_s)
        return 1.0 / self._interval_s


class Ages:
    """The newest KEPT frame ages."""

    def __init__(self) -> None:
        self._ages_ns = np.zeros(KEPT, np.int64)
        self._count = 0

    def add(self, age_ns: int) -> None:
        self._ages_ns[self._count % KEPT] = age_ns
        self._count += 1

    def percentile_ms(self, percent: float) -> float:
        """0.0 where nothing was added."""
        if not self._count:
            return 0.0
        return float(np.percentile(self._ages_ns[: min(self._count, KEPT)], percent)) / 1e6


class Counts(Protocol):
    """What a source knows of its losses."""

    @property
    def drops(self) -> int: ...
    @property
    def reconnects(self) -> int: ...


class Tally:
    """Adds up the decisions of a run."""

    def __init__(self) -> None:
        self._ages = Ages()
        self._frames = self._changes = 0
        self._first_ns = self._last_ns = 0

    def add(self, now_ns: int, age_ns: int, changed: bool) -> None:
        """One decision, made at now_ns. changed: the best label is another than before."""
        if not self._frames:
            self._first_ns = now_ns
        self._last_ns = now_ns
        self._frames += 1
        self._changes += changed
        self._ages.add(age_ns)

    def summary(self, sources: Sequence[Counts]) -> Summary:
        elapsed_s = (self._last_ns - self._first_ns) / 1e9
        return Summary(
            frames=self._frames,
            elapsed_s=elapsed_s,
            fps=(self._frames - 1) / elapsed_s if elapsed_s > 0 else 0.0,
            drops=sum(source.drops for source in sources),
            reconnects=sum(source.reconnects for source in sources),
            changes=self._changes,
            age_p50_ms=self._ages.percentile_ms(50),
            age_p95_ms=self._ages.percentile_ms(95),
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """A run, once it is over. changes: how often the best label of a source became another.

    joules_per_frame: of the whole board, where it reports its power.
    """

    frames: int
    elapsed_s: float
    fps: float
    drops: int
    reconnects: int
    changes: int
    age_p50_ms: float
    age_p95_ms: float
    joules_per_frame: float | None = None

    def __str__(self) -> str:
        if not self.frames:
            return f"no frame came, {self.drops} dropped"
        parts = [f"{counted(self.frames, 'frame')} in {self.elapsed_s:.1f} s", f"{self.fps:.1f} fps"]
        if self.frames == 1:  # no time passed between the first and the last
            parts = ["1 frame"]
        parts += [
            f"{self.drops} dropped",
            f"frame age p50 {self.age_p50_ms:.0f} ms, p95 {self.age_p95_ms:.0f} ms",
            f"label changed {counted(self.changes, 'time')}",
        ]
        if self.reconnects:
            parts.append(counted(self.reconnects, "reconnect"))
        if self.joules_per_frame is not None:
            parts.append(f"{self.joules_per_frame:.2f} J a frame")
        return ", ".join(parts)


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
