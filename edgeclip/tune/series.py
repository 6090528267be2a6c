"""What footage says of one watch: its smoothed score over time, and how often a threshold would have raised it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeclip.runtime.presence import Presence, Rule
from edgeclip.tune.clusters import Values, alarm_levels

AWAY_S = 5.0  # a longer time between two frames is an outage
APART_S = 3600.0  # between two pieces of footage: nothing in one belongs to anything in the other


@dataclass(frozen=True, slots=True)
class Piece:
    """One source's frames [N] for one watch. clock_s: not decreasing; scores: smoothed log-odds."""

    clock_s: Values
    scores: Values

    @property
    def seconds(self) -> float:
        """Each frame lasts until the next, the last as long as most do; while a camera is away, nothing is seen."""
        if len(self.clock_s) < 2:
            return 0.0
        steps_s = np.diff(self.clock_s)
        usual_s = float(np.median(steps_s))
        return float(np.minimum(steps_s, max(AWAY_S, 5.0 * usual_s)).sum()) + usual_s


@dataclass(frozen=True, slots=True)
class Series:
    """All footage of one watch, piece after piece. levels [N]: see alarm_levels(). seconds: without the pauses."""

    clock_s: Values
    scores: Values
    levels: Values
    seconds: float


def join(pieces: Sequence[Piece], dwell_s: float, agree: float) -> Series:
    """Pieces one after the other, with pauses that no cluster reaches across."""
    clocks, at_s = [], 0.0
    for piece in pieces:
        clocks.append(piece.clock_s - piece.clock_s[0] + at_s)
        at_s = float(clocks[-1][-1]) + APART_S
    return Series(
        clock_s=np.concatenate(clocks),
        scores=np.concatenate([piece.scores for piece in pieces]),
        levels=np.concatenate([alarm_levels(piece.scores, piece.clock_s, dwell_s, agree) for piece in pieces]),
        seconds=sum(piece.seconds for piece in pieces),
    )


def count_alarms(series: Series, rule: Rule) -> int:
    """How often a watch begins, by the runtime's own state machine. The rule's thresholds are log-odds here."""
    presence = Presence("", rule)
    clock_ns = np.rint(series.clock_s * 1e9).astype(np.int64).tolist()
    begun = 0
    for score, now_ns in zip(series.scores.tolist(), clock_ns, strict=True):
        change = presence.update(score, now_ns, 0, 0)
        begun += change is not None and change.on
    return begun
