"""Whether a watch holds: hysteresis, dwell, votes over frames, cool-down. Time is passed in; no thread, no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from edgeclip.types import Change


@dataclass(frozen=True, slots=True)
class Rule:
    """When a watch begins and ends.

    It begins with a frame at or above `enter` once, over the last dwell_s, a share `agree` of the frames reached
    `enter`. It ends with the first frame below `leave`, and then rests for cooldown_s.
    """

    enter: float
    leave: float
    dwell_s: float = 0.0
    agree: float = 1.0
    cooldown_s: float = 0.0


class Presence:
    """One watch on one source. Begins and ends alternate, a begin first."""

    def __init__(self, name: str, rule: Rule) -> None:
        self.name = name
        self.rule = rule
        self.on = False
        self._dwell_ns = round(rule.dwell_s * 1e9)
        self._votes: deque[tuple[int, bool, int, int, float]] = deque()  # clock, vote, captured, wall, probability
        self._agreeing = 0
        self._rest_until_ns: int | None = None
        self._last_ns: int | None = None
        self._began = (0, 0)
        self._peak = self._probability = 0.0

    def update(self, probability: float, clock_ns: int, captured_ns: int, wall_ns: int) -> Change | None:
        """The next frame of the source. clock_ns: the time that dwell and cool-down count in; a clock that goes
        backwards forgets the votes and the rest."""
        if self._last_ns is not None and clock_ns < self._last_ns:
            self._forget_votes()
            self._rest_until_ns = None
        self._last_ns = clock_ns
        self._probability = probability
        if self.on:
            self._peak = max(self._peak, probability)
            if probability >= self.rule.leave:
                return None
            self._rest_until_ns = clock_ns + round(self.rule.cooldown_s * 1e9)
            return self._ended("left")
        if self._rest_until_ns is not None and clock_ns < self._rest_until_ns:
            return None
        return self._begun() if self._vote(probability, clock_ns, captured_ns, wall_ns) else None

    def end(self, reason: str) -> Change | None:
        """The end of what holds, for a reason that is no frame's."""
        return self._ended(reason) if self.on else None

    def _vote(self, probability: float, clock_ns: int, captured_ns: int, wall_ns: int) -> bool:
        """Count the frame; whether the watch begins with it."""
        votes = self._votes
        agrees = probability >= self.rule.enter
        votes.append((clock_ns, agrees, captured_ns, wall_ns, probability))
        self._agreeing += agrees
        while len(votes) > 1 and clock_ns - votes[1][0] >= self._dwell_ns:
            self._agreeing -= votes.popleft()[1]
        whole = clock_ns - votes[0][0] >= self._dwell_ns
        return agrees and whole and self._agreeing >= self.rule.agree * len(votes) - 1e-9

    def _begun(self) -> Change:
        self.on = True
        self._began = next(vote[2:4] for vote in self._votes if vote[1])
        self._peak = max(vote[4] for vote in self._votes)
        self._forget_votes()
        return self._change("")

    def _ended(self, reason: str) -> Change:
        self.on = False
        self._forget_votes()
        return self._change(reason)

    def _forget_votes(self) -> None:
        self._votes.clear()
        self._agreeing = 0

    def _change(self, reason: str) -> Change:
        began_ns, began_wall_ns = self._began
        return Change(
            watch=self.name,
            on=self.on,
            began_ns=began_ns,
            began_wall_ns=began_wall_ns,
            probability=self._probability,
            peak=self._peak,
            enter=self.rule.enter,
            reason=reason,
        )
