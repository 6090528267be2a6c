"""Counts what a run does. Wrapped around stages, so that a run without metrics pays nothing, and one with them well
under a hundredth of a frame's time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeclip.bundle import Bundle
from edgeclip.events.event import BundleRef
from edgeclip.events.log import EventLog, bundle_ref
from edgeclip.metrics.histogram import Histogram
from edgeclip.runtime.preprocess import Scratch
from edgeclip.runtime.supervisor import Supervisor
from edgeclip.types import Decision, Embeddings, Engine, Frame, Pixels, Sink, TextBank

STARTING_S = 300.0  # a first start may embed hundreds of texts
STILL_S = 10.0  # without a decision, while frames come
Batch = npt.NDArray[np.uint8]


class Meter:
    """ages, preprocess, engine, decision, sinks: histograms in seconds. decisions: by source. last: by source.

    feeds, bundle, ref, runtime, events: of the run, once begin() was called: after the golden frames have passed.
    """

    def __init__(self) -> None:
        self.ages, self.engine_s, self.decision_s, self.sinks_s = Histogram(), Histogram(), Histogram(), Histogram()
        self.preprocess_s: list[Histogram] = []  # one per preprocessor: they run on several threads
        self.decisions: dict[str, int] = {}
        self.last: dict[str, Decision] = {}
        self.feeds: Sequence[Supervisor] = ()
        self.bundle: Bundle | None = None
        self.ref: BundleRef | None = None
        self.runtime = ""
        self.events: EventLog | None = None
        self._started_s = time.monotonic()
        self._decided_s: float | None = None
        self._deciding_s = 0.0

    def begin(self, bundle: Bundle, engine: Engine, feeds: Sequence[Supervisor], sinks: Sequence[Sink]) -> None:
        self.ref = bundle_ref(bundle)
        self.bundle, self.runtime, self.feeds = bundle, engine.runtime, feeds
        self.events = next((sink for sink in sinks if isinstance(sink, EventLog)), None)

    # -- what it is wrapped around -------------------------------------------------------------------------------------

    def engine(self, engine: Engine) -> Engine:
        return _TimedEngine(engine, self.engine_s)

    def preprocessing(
        self, make: Callable[[Scratch], Callable[[Pixels], Batch]]
    ) -> Callable[[Scratch], Callable[[Pixels], Batch]]:
        def make_timed(scratch: Scratch) -> Callable[[Pixels], Batch]:
            preprocess, histogram, now = make(scratch), Histogram(), time.perf_counter
            self.preprocess_s.append(histogram)

            def timed(pixels: Pixels) -> Batch:
                begin_s = now()
                batch = preprocess(pixels)
                histogram.add(now() - begin_s)
                return batch

            return timed

        return make_timed

    def deciding(self, fresh_bank: Callable[[], TextBank | None]) -> Callable[[], TextBank | None]:
        """fresh_bank is the first thing that is asked when a decision begins."""
        now = time.perf_counter

        def asked() -> TextBank | None:
            self._deciding_s = now()
            return fresh_bank()

        return asked

    def around(self, sinks: Sequence[Sink]) -> list[Sink]:
        """All of them as one, that is timed."""
        return [_TimedSinks(self, sinks)]

    def note(self, decision: Decision, decided_s: float, done_s: float) -> None:
        """A decision was made and has reached every sink; times of perf_counter."""
        if decision.closing:
            self.last[decision.source] = decision
            return
        self.ages.add(decision.age_ns / 1e9)
        self.decision_s.add(decided_s - self._deciding_s)
        self.sinks_s.add(done_s - decided_s)
        self.last[decision.source] = decision  # before it is counted: a scrape asks for the last of what it counts
        self.decisions[decision.source] = self.decisions.get(decision.source, 0) + 1
        self._decided_s = time.monotonic()

    # -- how it is -----------------------------------------------------------------------------------------------------

    def ready(self) -> str:
        """ "" where the golden frames have passed and a decision was made, else what is missing."""
        if self.bundle is None:
            return "the engine has not passed its self-test yet"
        return "" if self._decided_s is not None else "no decision yet"

    def ill(self) -> str:
        """ "" where the frame loop is alive: a decision is recent, or no source gives frames; else what is wrong."""
        now_s = time.monotonic()
        if self._decided_s is None:
            return "" if now_s - self._started_s < STARTING_S or self._away() else "no decision since the start"
        rates = [decision.fps for decision in list(self.last.values()) if decision.fps]
        limit_s = max(STILL_S, 5.0 / min(rates) if rates else 0.0)
        still_s = now_s - self._decided_s
        return "" if still_s < limit_s or self._away() else f"no decision for {still_s:.0f} s, though frames come"

    def _away(self) -> bool:
        return bool(self.feeds) and all(feed.state != "streaming" for feed in self.feeds)


class _TimedEngine:
    def __init__(self, engine: Engine, histogram: Histogram) -> None:
        self.input_shape, self.input_dtype, self.runtime = engine.input_shape, engine.input_dtype, engine.runtime
        self.close = engine.close
        self._run, self._add = engine.run, histogram.add

    def run(self, batch: npt.NDArray[Any]) -> Embeddings:
        begin_s = time.perf_counter()
        embeddings = self._run(batch)
        self._add(time.perf_counter() - begin_s)
        return embeddings


class _TimedSinks:
    def __init__(self, meter: Meter, sinks: Sequence[Sink]) -> None:
        self._writes, self._note = [sink.write for sink in sinks], meter.note

    def open(self) -> None:
        return

    def write(self, decision: Decision, frame: Frame) -> None:
        begin_s = time.perf_counter()
        for write in self._writes:
            write(decision, frame)
        self._note(decision, begin_s, time.perf_counter())

    def close(self) -> None:
        return
