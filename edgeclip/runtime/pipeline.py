"""The frame loop: frame, preprocess, engine, similarity, decision, sinks. The only place that knows their order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from edgeclip.bundle import Scoring
from edgeclip.runtime.ahead import Ahead, Batch
from edgeclip.runtime.decision import Smoother, rank
from edgeclip.runtime.pace import Ages, Rate, Summary
from edgeclip.runtime.similarity import score, similarity
from edgeclip.types import Decision, Embeddings, Engine, Frame, Sink, TextBank

SELF_TEST_NS = 3600 * 1_000_000_000


class Track:
    """What one source's decisions remember of the ones before."""

    def __init__(self, half_life_s: float, step_ns: int | None) -> None:
        self.smoother = Smoother(half_life_s)
        self.rate = Rate()
        self.step_ns = step_ns
        self.best = ""

    def clock_ns(self, frame: Frame) -> int:
        """The time that smoothing counts in: the capture's, or the film's own where files play as fast as they can."""
        return frame.captured_ns if self.step_ns is None else frame.index * self.step_ns


class Pipeline:
    """Turns prepared frames into decisions.

    check(batch, embedding) raises EngineError for an output no decision may rest on; self_test() runs golden frames.
    fresh_bank() is a new text bank or None, asked between frames. tracks: one per source, in Ahead's order.
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
    ) -> None:
        self._engine = engine
        self._scoring = scoring
        self._tracks = tracks
        self._sinks = sinks
        self._top = top
        self._check = check
        self._self_test = self_test
        self._fresh_bank = fresh_bank
        self._use(bank)

    def run(self, ahead: Ahead, stop: Callable[[], bool], max_frames: int | None = None) -> Summary:
        """Decide every frame until `stop()`, `max_frames`, or the end of the sources. Raises EdgeclipError."""
        infer, check, fresh_bank = self._engine.run, self._check, self._fresh_bank
        lanes, tracks, now = ahead.lanes, self._tracks, time.monotonic_ns
        writes = [sink.write for sink in self._sinks]
        ages, frames, changes = Ages(), 0, 0
        first_ns = last_ns = now()
        next_test_ns = last_ns + SELF_TEST_NS

        for prepared in ahead.frames(stop):
            frame, track = prepared.frame, tracks[prepared.lane]
            embedding = infer(prepared.batch)
            check(prepared.batch, embedding)
            similarity(embedding, self._texts, out=self._row)
            scores = track.smoother.update(score(self._row, self._scoring, out=self._row)[0], track.clock_ns(frame))
            last_ns = now()
            decision = Decision(
                frame_index=frame.index,
                source=frame.source,
                captured_ns=frame.captured_ns,
                wall_ns=frame.wall_ns,
                age_ns=last_ns - frame.captured_ns,
                names=self._names,
                scores=scores,
                order=rank(scores, self._top or len(scores)),
                drops=lanes[prepared.lane].drops,
                fps=track.rate.tick(last_ns),
            )
            for write in writes:
                write(decision, frame)

            ages.add(decision.age_ns)
            if frames == 0:
                first_ns = last_ns
            frames += 1
            if decision.label != track.best:
                changes += bool(track.best)
                track.best = decision.label
            if frames == max_frames:
                break
            bank = fresh_bank()
            if bank is not None:
                self._use(bank)
            if last_ns >= next_test_ns:
                self._self_test()
                next_test_ns = last_ns + SELF_TEST_NS

        elapsed_s = (last_ns - first_ns) / 1e9
        return Summary(
            frames=frames,
            elapsed_s=elapsed_s,
            fps=(frames - 1) / elapsed_s if elapsed_s > 0 else 0.0,
            drops=sum(lane.drops for lane in lanes),
            reconnects=sum(lane.feed.reconnects for lane in lanes),
            changes=changes,
            age_p50_ms=ages.percentile_ms(50),
            age_p95_ms=ages.percentile_ms(95),
        )

    def _use(self, bank: TextBank) -> None:
        """Put a text bank in force. Decisions made before keep their own names and scores."""
        self._names = bank.names
        self._texts = bank.embeddings
        self._row = np.empty((1, len(bank.names)), np.float32)
        for track in self._tracks:
            track.smoother.reset()
