"""The frame loop: frame, preprocess, engine, similarity, decision, sinks. The only place that knows their order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from edgeclip.bundle import Scoring
from edgeclip.region import Regions
from edgeclip.runtime.ahead import Ahead, Lane, Prepared
from edgeclip.runtime.behind import Behind
from edgeclip.runtime.crops import Batch
from edgeclip.runtime.decision import Scores, Smoother, rank
from edgeclip.runtime.evidence import Unknown
from edgeclip.runtime.pace import Rate, Summary, Tally
from edgeclip.runtime.rows import Rows
from edgeclip.runtime.similarity import score, similarity
from edgeclip.runtime.watching import Watching
from edgeclip.types import Decision, Embeddings, Engine, Frame, Sink, TextBank

SELF_TEST_NS = 3600 * 1_000_000_000


class Track:
    """What one source's decisions remember of the ones before."""

    def __init__(self, half_life_s: float, step_ns: int | None) -> None:
        self.smoother = Smoother(half_life_s)
        self.unknown = Smoother(half_life_s)
        self.rate = Rate()
        self.step_ns = step_ns
        self.best = ""
        self.last: tuple[Decision, Frame] | None = None

    def clock_ns(self, frame: Frame) -> int:
        """The time that smoothing counts in: the capture's, or the film's own where files play as fast as they can."""
        return frame.captured_ns if self.step_ns is None else frame.index * self.step_ns

    def turned_to(self, label: str) -> bool:
        """Whether the best label is another than before."""
        before, self.best = self.best, label
        return before not in ("", label)


class Pipeline:
    """Turns prepared frames into decisions.

    check(batch, embedding) raises EngineError for an output no decision may rest on; self_test() runs golden frames.
    fresh_bank() is a new text bank or None, asked before every decision. tracks: one per source, in Ahead's order.
    watching, unknown: where they are asked for.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        bank: TextBank,
        scoring: Scoring,
        tracks: Sequence[Track],
        sinks: Sequence[Sink],
        top: int,
        check: Callable[[Batch, Embeddings], object],
        self_test: Callable[[], object],
        fresh_bank: Callable[[], TextBank | None],
        watching: Watching | None = None,
        unknown: Unknown | None = None,
    ) -> None:
        self._engine = engine
        self._watching = watching
        self._unknown = unknown
        self._scoring = scoring
        self._tracks = tracks
        self._writes = [sink.write for sink in sinks]
        self._top = top
        self._check = check
        self._self_test = self_test
        self._fresh_bank = fresh_bank
        self._use(bank)
        self._tally = Tally()
        self._lanes: Sequence[Lane] = ()

    def run(self, ahead: Ahead, stop: Callable[[], bool], max_frames: int | None = None) -> Summary:
        """Decide every frame until `stop()`, `max_frames`, or the end of the sources. Raises EdgeclipError."""
        infer, check, now = Rows(self._engine).run, self._check, time.monotonic_ns
        self._tally = Tally()
        self._lanes = ahead.lanes
        count = 0
        next_test_ns = now() + SELF_TEST_NS

        with Behind(self._decide, self._texts.shape[1], self._end_watches) as behind:
            for group in ahead.groups(stop, self._engine.input_shape[0]):
                embeddings, row = infer(_joined(group)), 0
                for prepared in group if max_frames is None else group[: max_frames - count]:
                    rows = embeddings[row : row + len(prepared.batch)]
                    row += len(rows)
                    check(prepared.batch, rows)
                    behind.put(rows, prepared.frame, prepared.lane, prepared.regions)
                    count += 1
                if count == max_frames:
                    break
                if now() >= next_test_ns:
                    self._self_test()
                    next_test_ns = now() + SELF_TEST_NS
        return self._tally.summary(ahead.lanes)

    def _decide(self, embeddings: Embeddings, frame: Frame, lane: int, regions: Regions) -> None:
        """What comes after the engine, beside the engine's next frame. embeddings: [R, D], the whole frame's first."""
        bank = self._fresh_bank()
        if bank is not None:
            self._use(bank)
        track = self._tracks[lane]
        clock_ns = track.clock_ns(frame)
        scores, unknown = self._scores(embeddings[:1], track, clock_ns) if self._names else (self._row[0], 0.0)
        watches = self._watching.update(lane, embeddings, regions, clock_ns, frame) if self._watching else ()
        now_ns = time.monotonic_ns()
        decision = Decision(
            frame_index=frame.index,
            source=frame.source,
            captured_ns=frame.captured_ns,
            wall_ns=frame.wall_ns,
            age_ns=now_ns - frame.captured_ns,
            names=self._names,
            scores=scores,
            order=rank(scores, self._top or len(scores)),
            drops=self._lanes[lane].drops,
            fps=track.rate.tick(now_ns),
            watches=watches,
            changes=self._watching.changes(lane) if self._watching else (),
            unknown=unknown,
            picture=frame.picture,
        )
        for write in self._writes:
            write(decision, frame)
        self._tally.add(now_ns, decision.age_ns, track.turned_to(decision.label))
        if watches:
            track.last = (decision, frame)

    def _scores(self, embedding: Embeddings, track: Track, clock_ns: int) -> tuple[Scores, float]:
        """Of the labels [L], smoothed, and of none of them."""
        row = similarity(embedding, self._texts, out=self._row)
        unknown = 0.0
        if self._unknown is not None:  # calibrated for cosines, which a refinement changes
            none = (
                self._unknown.probability(row)
                if self._shown is None
                else self._unknown.probability(row, self._shown.known(embedding))
            )
            unknown = float(track.unknown.update(none, clock_ns)[0])
        if self._refinement is not None:
            self._refinement.add(embedding, row)
        return track.smoother.update(score(row, self._scoring, out=row)[0], clock_ns), unknown

    def _end_watches(self) -> None:
        """What still holds ends with its source, told with the last frame once more."""
        for lane, track in enumerate(self._tracks):
            changes = self._watching.end(lane) if self._watching else ()
            if changes and track.last is not None:
                decision, frame = track.last
                states = tuple(replace(state, on=False) for state in decision.watches)
                decision = replace(decision, watches=states, changes=changes, closing=True)
                for write in self._writes:
                    write(decision, frame)

    def _use(self, bank: TextBank) -> None:
        """Put a text bank in force. Decisions made before keep their own names and scores."""
        self._names = bank.names
        self._texts = bank.embeddings
        self._refinement = bank.refinement
        self._shown = bank.shown
        self._row = np.empty((1, len(bank.names)), np.float32)
        if self._unknown is not None:
            self._unknown.among(len(bank.names))
        for track in self._tracks:
            track.smoother.reset()
            track.unknown.reset()


def _joined(group: Sequence[Prepared]) -> Batch:
    """[sum of R, H, W, 3] of frames of one source or several."""
    return group[0].batch if len(group) == 1 else np.concatenate([prepared.batch for prepared in group])
