"""The watches at work: one frame's embeddings to what holds now, for every source. Time comes from the frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgeclip.region import Regions
from edgeclip.runtime.decision import smooth
from edgeclip.runtime.evidence import Floats, probability
from edgeclip.runtime.presence import Presence
from edgeclip.runtime.watchbank import WatchBank
from edgeclip.types import Change, Embeddings, Frame, Outline, WatchState

States = tuple[WatchState, ...]
Changes = tuple[Change, ...]

CHANGED = "watches changed"
ENDED = "source ended"


class Watching:
    """The watches in force on each source (a lane each). All but `regions` is for one thread.

    fresh(): other watches, or None, asked before every frame.
    """

    def __init__(
        self, bank: WatchBank, sources: Sequence[str], fresh: Callable[[], WatchBank | None] = lambda: None
    ) -> None:
        self._fresh = fresh
        self._sources = [_OnSource(source) for source in sources]
        self.use(bank)

    @property
    def regions(self) -> Regions:
        """What to cut from frames from now on; asked from other threads."""
        return self._bank.regions

    def use(self, bank: WatchBank) -> None:
        """Put other watches in force. What is gone or was changed ends with the source's next frame; the rest goes on
        as if nothing had happened."""
        self._bank = bank
        for source in self._sources:
            source.use(bank)

    def update(self, lane: int, embeddings: Embeddings, regions: Regions, clock_ns: int, frame: Frame) -> States:
        """The next frame of a source: embeddings [R, D], a row for each of regions. Changes are taken with changes().

        A frame that was cut for the watches before is passed over: nothing is decided on it.
        """
        bank = self._fresh()
        if bank is not None:
            self.use(bank)
        odds = self._bank.log_odds(embeddings) if regions == self._bank.regions else None
        return self._sources[lane].update(odds, clock_ns, frame)

    def changes(self, lane: int) -> Changes:
        """What began or ended since it was last asked."""
        return self._sources[lane].take()

    def end(self, lane: int) -> Changes:
        """The end of a source: what holds ends."""
        return self._sources[lane].end()


class _OnSource:
    """The watches that see one source: smoothing, and a state machine each."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._definitions: dict[str, object] = {}
        self._presences: dict[str, Presence] = {}
        self._outlines: list[Outline] = []
        self._rows = np.empty(0, np.int64)
        self._half_life_s = np.empty(0, np.float64)
        self._odds = np.empty(0, np.float32)  # smoothed; NaN where there was no frame yet
        self._clock_ns = 0
        self._states: States = ()
        self._pending: list[Change] = []

    def use(self, bank: WatchBank) -> None:
        rows = [row for row, watch in enumerate(bank.watches) if watch.sees(self._source)]
        definitions = {bank.watches[row].name: (bank.watches[row], bank.rules[row]) for row in rows}
        kept = {name for name, definition in definitions.items() if self._definitions.get(name) == definition}
        smoothed = dict(zip(self._presences, self._odds.tolist(), strict=True))
        for name, presence in self._presences.items():
            if name not in kept:
                self._add(presence.end(CHANGED))
        self._presences = {
            name: self._presences[name] if name in kept else Presence(name, rule)
            for name, (_, rule) in definitions.items()
        }
        self._odds = np.array([smoothed[name] if name in kept else np.nan for name in definitions], np.float32)
        self._definitions = dict(definitions)
        self._outlines = [region.outline if (region := bank.watches[row].region) else () for row in rows]
        self._rows = np.array(rows, np.int64)
        self._half_life_s = bank.half_life_s[self._rows]
        self._states = self._told(np.nan_to_num(probability(self._odds)).tolist())

    def update(self, odds: Floats | None, clock_ns: int, frame: Frame) -> States:
        """odds: [W] of all watches in force, None where the frame says nothing."""
        if odds is None or not len(self._rows):
            return self._states
        elapsed_s = (clock_ns - self._clock_ns) / 1e9
        self._clock_ns = clock_ns
        current = odds[self._rows]
        afresh = np.isnan(self._odds) if elapsed_s >= 0.0 else True  # a clock that goes backwards: another film
        self._odds = np.where(afresh, current, smooth(self._odds, current, max(elapsed_s, 0.0), self._half_life_s))
        probabilities = probability(self._odds).tolist()
        for presence, value in zip(self._presences.values(), probabilities, strict=True):
            self._add(presence.update(value, clock_ns, frame.captured_ns, frame.wall_ns))
        self._states = self._told(probabilities)
        return self._states

    def end(self) -> Changes:
        for presence in self._presences.values():
            self._add(presence.end(ENDED))
        return self.take()

    def take(self) -> Changes:
        taken, self._pending = tuple(self._pending), []
        return taken

    def _add(self, change: Change | None) -> None:
        if change is not None:
            self._pending.append(change)

    def _told(self, probabilities: list[float]) -> States:
        return tuple(
            WatchState(presence.name, value, presence.rule.enter, presence.on, outline)
            for presence, value, outline in zip(self._presences.values(), probabilities, self._outlines, strict=True)
        )
