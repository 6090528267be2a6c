from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest

from edgeclip.bundle import Scoring
from edgeclip.errors import EngineError
from edgeclip.region import Region
from edgeclip.runtime import pipeline as pipeline_module
from edgeclip.runtime.ahead import Ahead, Batch
from edgeclip.runtime.background import Background
from edgeclip.runtime.evidence import Null, Unknown
from edgeclip.runtime.pace import Summary
from edgeclip.runtime.pipeline import Pipeline, Track
from edgeclip.runtime.watchbank import WatchBank, load_watch_bank
from edgeclip.runtime.watches import Watch, WatchFile
from edgeclip.runtime.watching import Watching
from edgeclip.types import Decision, Embeddings, Frame, Label, Pixels, Sink, TextBank

BANK = TextBank(("dark", "bright"), np.eye(2, dtype=np.float32), "sha256:0")
HARD = Scoring("softmax", 100.0)


class Brightness:
    """An engine: black pictures are (1, 0), white ones (0, 1). It returns its own buffer, as real ones may."""

    input_shape = (1, 2, 2, 3)
    input_dtype = np.dtype(np.uint8)
    runtime = "brightness"

    def __init__(self, pause_s: float = 0.0) -> None:
        self._out = np.zeros((1, 2), np.float32)
        self._pause_s = pause_s

    def run(self, batch: npt.NDArray[np.uint8]) -> Embeddings:
        time.sleep(self._pause_s)
        bright = batch[0, 0, 0, 0] / 255.0
        self._out[0] = (1 - bright, bright)
        self._out /= np.linalg.norm(self._out)
        return self._out

    def close(self) -> None:
        return


class Pictures:
    """A supervised source of grey pictures."""

    def __init__(self, greys: list[int], *, live: bool = False, apart_s: float = 0.0, name: str = "pictures") -> None:
        self.source = SimpleNamespace(live=live)
        self.drops = self.reconnects = 0
        self._greys, self._apart_s, self._name, self._stopped = greys, apart_s, name, False

    def frames(self) -> Iterator[Frame]:
        for index, grey in enumerate(self._greys):
            if self._stopped:
                return
            time.sleep(self._apart_s)
            pixels = np.full((2, 2, 3), grey, np.uint8)
            yield Frame(pixels, index, time.monotonic_ns(), time.time_ns(), self._name)

    def stop(self) -> None:
        self._stopped = True


class Kept:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.frames: list[Frame] = []

    def open(self) -> None:
        return

    def write(self, decision: Decision, frame: Frame) -> None:
        self.decisions.append(decision)
        self.frames.append(frame)

    def close(self) -> None:
        return


def batch_of(pixels: Pixels) -> Batch:
    return pixels[None].copy()


def accept(batch: Batch, embedding: Embeddings) -> None:
    pass


def no_check(batch: Batch, embeddings: Embeddings) -> None:
    return


class SeveralAtOnce(Brightness):
    """Takes up to four; keeps how many it was given."""

    input_shape = (4, 2, 2, 3)

    def __init__(self) -> None:
        super().__init__()
        self.given: list[int] = []

    def run(self, batch: npt.NDArray[np.uint8]) -> Embeddings:
        self.given.append(len(batch))
        time.sleep(0.01)
        return np.concatenate([super(SeveralAtOnce, self).run(row[None]).copy() for row in batch])


def ran(
    *feeds: Pictures,
    sinks: tuple[Sink, ...] = (),
    tracks: list[Track] | None = None,
    check: Callable[[Batch, Embeddings], object] = accept,
    fresh_bank: Callable[[], TextBank | None] = lambda: None,
    self_test: Callable[[], object] = int,
    stop: Callable[[], bool] = lambda: False,
    max_frames: int | None = None,
    pause_s: float = 0.0,
    engine: Brightness | None = None,
) -> Summary:
    pipeline = Pipeline(
        engine=engine or Brightness(pause_s),
        bank=BANK,
        scoring=HARD,
        tracks=tracks or [Track(0.0, None) for _ in feeds],
        sinks=sinks,
        top=0,
        check=check,
        self_test=self_test,
        fresh_bank=fresh_bank,
    )
    with Ahead(feeds, lambda _: batch_of) as ahead:
        return pipeline.run(ahead, stop, max_frames)


def test_every_frame_is_decided_in_order_and_reaches_every_sink() -> None:
    one, two = Kept(), Kept()
    summary = ran(Pictures([0, 255, 255, 0]), sinks=(one, two))
    assert [decision.label for decision in one.decisions] == ["dark", "bright", "bright", "dark"]
    assert [decision.frame_index for decision in one.decisions] == [0, 1, 2, 3]
    assert [frame.index for frame in one.frames] == [0, 1, 2, 3]
    assert one.decisions == two.decisions
    assert (summary.frames, summary.changes, summary.drops) == (4, 2, 0)


def test_a_decision_says_how_old_its_frame_was_and_how_fast_they_come() -> None:
    kept = Kept()
    summary = ran(Pictures([0] * 20, live=True, apart_s=0.02), sinks=(kept,), pause_s=0.005)
    assert all(5e6 <= decision.age_ns < 5e9 for decision in kept.decisions)
    assert kept.decisions[0].fps == 0.0
    assert 5 < kept.decisions[-1].fps < 51
    assert 5 < summary.fps < 51
    assert 5 <= summary.age_p50_ms <= summary.age_p95_ms


def test_scores_stay_those_of_their_frame() -> None:
    kept = Kept()
    ran(Pictures([0, 255, 0, 255]), sinks=(kept,))
    assert [decision.scores.argmax() for decision in kept.decisions] == [0, 1, 0, 1]


def test_a_slow_engine_sees_the_newest_live_frame_and_every_frame_of_a_file() -> None:
    greys = [0] * 29 + [255]
    live, film = Kept(), Kept()
    summary = ran(Pictures(greys, live=True, apart_s=0.005), sinks=(live,), pause_s=0.05)
    assert summary.drops == 30 - summary.frames > 0
    assert live.decisions[-1].frame_index == 29
    assert live.decisions[-1].drops == summary.drops
    assert ran(Pictures(greys), sinks=(film,), pause_s=0.005).frames == 30


def test_max_frames_and_stop_end_the_run() -> None:
    assert ran(Pictures([0] * 100), max_frames=7).frames == 7
    kept = Kept()
    ran(Pictures([0] * 10_000), sinks=(kept,), stop=lambda: len(kept.decisions) >= 5)
    assert 5 <= len(kept.decisions) <= 9  # those already with the engine are still decided


def test_labels_change_between_two_frames_and_old_decisions_keep_theirs() -> None:
    kept = Kept()
    swapped = TextBank(("night", "dusk", "day"), np.array([[1, 0], [0.7, 0.7], [0, 1]], np.float32), "sha256:0")
    banks = iter([None, None, swapped])
    ran(Pictures([255] * 4), sinks=(kept,), fresh_bank=lambda: next(banks, None))
    assert [decision.label for decision in kept.decisions] == ["bright", "bright", "day", "day"]
    assert [decision.names for decision in kept.decisions][1:3] == [BANK.names, swapped.names]
    assert [len(decision.scores) for decision in kept.decisions] == [2, 2, 3, 3]


def test_smoothing_counts_the_films_own_time_and_starts_afresh_with_new_labels() -> None:
    kept = Kept()
    ran(Pictures([0, 0, 255]), sinks=(kept,), tracks=[Track(1.0, 1_000_000_000)])
    assert kept.decisions[2].scores[1] == pytest.approx(0.5, abs=1e-3)
    ran(Pictures([0, 255]), sinks=(kept,), tracks=[Track(1.0, 1)], fresh_bank=lambda: BANK)
    assert kept.decisions[-1].scores[1] == pytest.approx(1.0, abs=1e-3)


def test_sources_are_smoothed_and_counted_apart() -> None:
    kept = Kept()
    summary = ran(
        Pictures([0] * 5, name="a"), Pictures([255] * 5, name="b"), sinks=(kept,), tracks=[Track(9.0, 1), Track(9.0, 1)]
    )
    labels = {(decision.source, decision.label) for decision in kept.decisions}
    assert labels == {("a", "dark"), ("b", "bright")}
    assert (summary.frames, summary.changes) == (10, 0)


def test_an_output_that_no_decision_may_rest_on_stops_the_run() -> None:
    kept = Kept()
    checked: list[int] = []

    def check(batch: Batch, embedding: Embeddings) -> None:
        assert batch.shape[0] == len(embedding) == 1
        checked.append(len(checked))
        if len(checked) == 3:
            raise EngineError("the engine returns one constant")

    with pytest.raises(EngineError, match="constant"):
        ran(Pictures([0] * 5), sinks=(kept,), check=check)
    assert len(kept.decisions) <= 2


def test_a_sink_that_fails_stops_the_run_with_its_error() -> None:
    class Broken(Kept):
        def write(self, decision: Decision, frame: Frame) -> None:
            super().write(decision, frame)
            if frame.index == 3:
                raise BrokenPipeError("nobody reads")

    broken = Broken()
    with pytest.raises(BrokenPipeError, match="nobody reads"):
        ran(Pictures([0] * 10_000), sinks=(broken,))
    assert len(broken.decisions) == 4


def test_the_golden_frames_are_run_again_between_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "SELF_TEST_NS", 20_000_000)
    tests: list[int] = []
    ran(Pictures([0] * 10, apart_s=0.01), self_test=lambda: tests.append(1))
    assert 1 <= len(tests) <= 10


class Meeting:
    """Two stages must be inside their work at the same moment: each waits here for the other, and fails without it."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2, timeout=20.0)
        self.attended = 0

    def attend(self) -> None:
        self._barrier.wait()
        self.attended += 1


def overlapped(
    prepare: Callable[[int], object], engine: Callable[[int], object], deliver: Callable[[int], object]
) -> None:
    """A run of 30 frames; each callable is called with the frame's number while that stage is at work on it."""

    class Engine(Brightness):
        count = -1

        def run(self, batch: npt.NDArray[np.uint8]) -> Embeddings:
            self.count += 1
            engine(self.count)
            return super().run(batch)

    class Sink(Kept):
        def write(self, decision: Decision, frame: Frame) -> None:
            deliver(frame.index)
            super().write(decision, frame)

    def preprocess(pixels: Pixels) -> Batch:
        prepare(int(pixels[0, 0, 0]))
        return batch_of(pixels)

    kept = Sink()
    pipeline = Pipeline(
        engine=Engine(),
        bank=BANK,
        scoring=HARD,
        tracks=[Track(0.0, None)],
        sinks=(kept,),
        top=0,
        check=accept,
        self_test=int,
        fresh_bank=lambda: None,
    )
    with Ahead([Pictures(list(range(30)))], lambda _: preprocess) as ahead:
        pipeline.run(ahead, lambda: False)
    assert [frame.index for frame in kept.frames] == list(range(30))


def test_the_next_frame_is_prepared_while_the_engine_runs() -> None:
    meeting = Meeting()
    overlapped(
        prepare=lambda number: meeting.attend() if number == 11 else None,
        engine=lambda number: meeting.attend() if number == 10 else None,
        deliver=int,
    )
    assert meeting.attended == 2


def test_a_frame_is_delivered_while_the_engine_runs_the_next() -> None:
    meeting = Meeting()
    overlapped(
        prepare=int,
        engine=lambda number: meeting.attend() if number == 11 else None,
        deliver=lambda number: meeting.attend() if number == 10 else None,
    )
    assert meeting.attended == 2


def test_an_engine_that_takes_several_decides_frames_of_all_sources_at_once() -> None:
    kept, engine = Kept(), SeveralAtOnce()
    feeds = [Pictures([0, 255] * 10, name="a"), Pictures([255, 0] * 10, name="b"), Pictures([0] * 20, name="c")]
    summary = ran(*feeds, sinks=(kept,), engine=engine)
    assert summary.frames == 60
    assert max(engine.given) == 4
    for source, greys in (("a", [0, 255] * 10), ("b", [255, 0] * 10), ("c", [0] * 20)):
        labels = [decision.label for decision in kept.decisions if decision.source == source]
        assert labels == ["bright" if grey else "dark" for grey in greys]


def test_a_limit_of_frames_holds_within_what_an_engine_took_at_once() -> None:
    feeds = [Pictures([0] * 20, name="a"), Pictures([0] * 20, name="b")]
    assert ran(*feeds, engine=SeveralAtOnce(), max_frames=7).frames == 7


def watches(*some: Watch) -> WatchBank:
    background = Background(np.zeros((1, 2), np.float32), Null(0.0, 0.25, 0.0, 1.0))
    rows = {"dark": 0, "bright": 1}

    def embed(labels: Sequence[Label]) -> TextBank:
        texts = [(*label.prompts, label.name)[0] for label in labels]
        return TextBank(tuple(texts), np.eye(2, dtype=np.float32)[[rows[text] for text in texts]], "sha256:0")

    return load_watch_bank(WatchFile(watches=list(some)), background, embed)


class Halves(Pictures):
    """Pictures whose right half is white."""

    def frames(self) -> Iterator[Frame]:
        for frame in super().frames():
            frame.pixels[:, 1:] = 255
            yield frame


def watched(
    feed: Pictures, watching: Watching, sinks: tuple[Sink, ...], unknown: Unknown | None = None, bank: TextBank = BANK
) -> None:
    pipeline = Pipeline(
        engine=Brightness(),
        bank=bank,
        scoring=HARD,
        tracks=[Track(0.0, 1_000_000_000)],
        sinks=sinks,
        top=0,
        check=accept,
        self_test=int,
        fresh_bank=lambda: None,
        watching=watching,
        unknown=unknown,
    )
    with Ahead([feed], lambda _: batch_of, lambda: watching.regions) as ahead:
        pipeline.run(ahead, lambda: False)


def test_decisions_carry_watches_and_what_holds_at_the_end_is_closed_on_the_sinks_thread() -> None:
    threads: list[str] = []

    class Noted(Kept):
        def write(self, decision: Decision, frame: Frame) -> None:
            super().write(decision, frame)
            threads.append(threading.current_thread().name)

    kept = Noted()
    watched(Pictures([0, 0, 255, 255]), Watching(watches(Watch(name="bright", smoothing_s=0)), ["pictures"]), (kept,))
    assert [[state.on for state in decision.watches] for decision in kept.decisions] == [
        [False],
        [False],
        [True],
        [True],
        [False],
    ]
    assert [decision.closing for decision in kept.decisions] == [False] * 4 + [True]
    changes = [change for decision in kept.decisions for change in decision.changes]
    assert [(change.on, change.reason) for change in changes] == [(True, ""), (False, "source ended")]
    assert changes[0].began_ns == kept.decisions[2].captured_ns
    assert len(set(threads)) == 1


def test_a_watch_sees_its_own_region_of_the_frame() -> None:
    left, right = Region(box=(0, 0, 0.5, 1)), Region(box=(0.5, 0, 1, 1))
    bank = watches(
        Watch(name="left", prompts="bright", region=left, smoothing_s=0),
        Watch(name="right", prompts="bright", region=right, smoothing_s=0),
    )
    kept = Kept()
    watched(Halves([0, 0, 0]), Watching(bank, ["pictures"]), (kept,))
    for decision in kept.decisions[:3]:
        assert [(state.name, state.on) for state in decision.watches] == [("left", False), ("right", True)]
        assert decision.label == "dark"  # of the whole frame, whose first pixel decides here


def test_a_frame_that_resembles_no_label_is_unknown() -> None:
    """Black is label `dark` itself, a cosine of 1; grey is between the two, at 0.71 of both."""
    kept = Kept()
    near, far = Unknown(Null(0.5, 0.05, 0.0, 1.0), 0.05), Unknown(Null(0.5, 0.2, 0.0, 1.0), 0.05)
    for unknown in (near, far):
        watched(Pictures([0, 128]), Watching(watches(Watch(name="bright")), ["pictures"]), (kept,), unknown)
    decisions = [decision for decision in kept.decisions if not decision.closing]
    assert [decision.label for decision in decisions] == ["dark", "bright", "dark", "unknown"]
    assert all(decision.score >= 0.5 for decision in decisions)


class Quietly:
    """A refinement by which all cosines count for little."""

    def add(self, image: Embeddings, similarities: npt.NDArray[np.float32]) -> None:
        similarities *= np.float32(0.1)


class Sure:
    """Shots that know every frame, or none."""

    def __init__(self, known: float) -> None:
        self._known = known

    def known(self, image: Embeddings) -> float:
        return self._known

    def blend(self, odds: npt.NDArray[np.float32], images: Embeddings) -> None:
        raise AssertionError


@pytest.mark.parametrize(("known", "labels"), [(6.0, ["dark", "bright"]), (-6.0, ["dark", "unknown"])])
def test_what_taught_shots_know_is_not_unknown_and_a_refinement_changes_nothing_in_it(
    known: float, labels: list[str]
) -> None:
    kept, unknown = Kept(), Unknown(Null(0.5, 0.2, 0.0, 1.0), 0.05)
    bank = replace(BANK, refinement=Quietly(), shown=Sure(known))
    watched(Pictures([0, 128]), Watching(watches(Watch(name="bright")), ["pictures"]), (kept,), unknown, bank)
    assert [decision.label for decision in kept.decisions if not decision.closing] == labels
