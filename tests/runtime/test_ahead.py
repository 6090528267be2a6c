from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from edgeclip.errors import SourceError
from edgeclip.runtime.ahead import Ahead, Batch, Lane
from edgeclip.runtime.preprocess import Scratch
from edgeclip.types import Frame, Pixels


class Feed:
    """A supervised source of numbered frames."""

    def __init__(self, count: int, *, live: bool = False, error: Exception | None = None, name: str = "feed") -> None:
        self.source = SimpleNamespace(live=live)
        self.drops = self.reconnects = 0
        self.stopped = False
        self._count, self._error, self._name = count, error, name

    def frames(self) -> Iterator[Frame]:
        for index in range(self._count):
            if self.stopped:
                return
            yield Frame(np.full((2, 2, 3), index % 256, np.uint8), index, time.monotonic_ns(), 0, self._name)
        if self._error:
            raise self._error

    def stop(self) -> None:
        self.stopped = True


class Preprocess:
    """Fills a buffer of its own, as the real one does."""

    def __init__(self, _: Scratch) -> None:
        self._buffer = np.zeros((1, 2, 2, 3), np.uint8)

    def __call__(self, pixels: Pixels) -> Batch:
        self._buffer[0] = pixels
        return self._buffer


def never() -> bool:
    return False


def until(is_so: Callable[[], bool], limit_s: float = 20.0) -> None:
    end_s = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end_s, "it never happened"
        time.sleep(0.001)


def has_waiting(ahead: Ahead, *lanes: int) -> Callable[[], bool]:
    """Whether each of these lanes, all by default, has a frame for the engine."""
    some = [ahead.lanes[number] for number in lanes] or ahead.lanes
    return lambda: all(lane._waiting for lane in some)


def test_a_finite_source_loses_nothing_and_keeps_its_order() -> None:
    with Ahead([Feed(200)], Preprocess) as ahead:
        seen = [prepared.frame.index for prepared in ahead.frames(never)]
    assert seen == list(range(200))
    assert ahead.lanes[0].drops == 0


def test_a_batch_is_its_frames_own_while_the_next_one_is_prepared() -> None:
    with Ahead([Feed(30)], Preprocess) as ahead:
        for prepared in ahead.frames(never):
            time.sleep(0.002)
            assert prepared.batch[0, 0, 0, 0] == prepared.frame.index


def test_live_frames_that_wait_are_replaced_by_newer_ones_and_counted() -> None:
    with Ahead([Feed(500, live=True)], Preprocess) as ahead:
        ahead._threads[0].join(20)  # all have come before the first is taken
        seen = [prepared.frame.index for prepared in ahead.frames(never)]
    assert seen == [499]
    assert ahead.lanes[0].drops == 499


def test_a_run_counts_no_losses_of_the_run_before_it_with_the_same_feed() -> None:
    feed = Feed(3)
    feed.drops, feed.reconnects = 40, 2
    lane = Ahead([feed], Preprocess).lanes[0]
    feed.drops += 1
    assert (lane.drops, lane.reconnects) == (1, 0)


def test_the_next_frame_is_prepared_while_the_engine_works() -> None:
    started = threading.Event()

    class Watched(Preprocess):
        def __call__(self, pixels: Pixels) -> Batch:
            if pixels[0, 0, 0] == 1:
                started.set()
            return super().__call__(pixels)

    with Ahead([Feed(3)], Watched) as ahead:
        frames = ahead.frames(never)
        next(frames)
        assert started.wait(5)


def test_no_source_keeps_another_from_its_turn() -> None:
    feeds = [Feed(50, name="a"), Feed(50, name="b")]
    with Ahead(feeds, Preprocess) as ahead:
        until(has_waiting(ahead))
        seen = [(prepared.lane, prepared.frame.source) for prepared in ahead.frames(never)]
    assert sorted(seen) == [(0, "a")] * 50 + [(1, "b")] * 50
    assert len({source for _, source in seen[:10]}) == 2


def test_an_engine_that_takes_several_gets_what_waits_of_all_sources_in_their_turns() -> None:
    feeds = [Feed(6, name="a"), Feed(6, name="b"), Feed(2, name="c", error=SourceError("gone"))]
    groups: list[list[str]] = []

    def look(ahead: Ahead) -> None:
        groups.extend(
            [f"{prepared.frame.source}{prepared.frame.index}" for prepared in group]
            for group in ahead.groups(never, most=4)
        )

    with Ahead(feeds, Preprocess) as ahead:
        until(has_waiting(ahead))
        with pytest.raises(SourceError, match="gone"):
            look(ahead)
    assert sorted(groups[0][:3]) == ["a0", "b0", "c0"]
    assert all(len(group) <= 4 for group in groups)
    assert "c1" in {name for group in groups for name in group}  # nothing is lost that came before the error
    for name in "ab":
        indices = [int(seen[1:]) for group in groups for seen in group if seen[0] == name]
        assert indices == list(range(len(indices)))


class Asked(Feed):
    """A live source that gives a frame whenever the test lets it, until it is stopped."""

    def __init__(self, name: str) -> None:
        super().__init__(0, live=True, name=name)
        self._asked = threading.Semaphore(0)

    def give(self) -> None:
        self._asked.release()

    def frames(self) -> Iterator[Frame]:
        index = 0
        while self._asked.acquire() and not self.stopped:
            yield Frame(np.zeros((2, 2, 3), np.uint8), index, time.monotonic_ns(), 0, self._name)
            index += 1

    def stop(self) -> None:
        super().stop()
        self.give()


def test_a_group_is_never_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeclip.runtime.ahead.LOOK_UP_S", 30.0)  # what a wait for the door would take
    yard, door = Asked("yard"), Asked("door")
    began_s = time.monotonic()
    with Ahead([yard, door], Preprocess) as ahead:
        groups = ahead.groups(never, most=8)
        for number in range(5):
            yard.give()
            assert [(prepared.lane, prepared.frame.index) for prepared in next(groups)] == [(0, number)]
    assert time.monotonic() - began_s < 20


def test_a_source_that_floods_starves_no_other() -> None:
    """Two cameras beside a source without end that is as fast as it can: the engine is theirs in turn."""
    yard, door = Asked("yard"), Asked("door")
    with Ahead([Feed(10**9, name="flood"), yard, door], Preprocess) as ahead:
        frames = ahead.frames(never)
        for _ in range(20):
            yard.give()
            door.give()
            until(has_waiting(ahead))
            assert {next(frames).frame.source for _ in range(3)} == {"flood", "yard", "door"}


def test_two_floods_share_the_engine_evenly() -> None:
    """A film, which queues its frames, and a live source, which replaces them."""
    live = Asked("live")
    with Ahead([Feed(10**9, name="film"), live], Preprocess) as ahead:
        frames, seen = ahead.frames(never), []
        for _ in range(40):
            live.give()
            until(has_waiting(ahead))
            seen.append(next(frames).frame.source)
    assert {frozenset(pair) for pair in pairwise(seen)} == {frozenset(("film", "live"))}


class Clock:
    """Time as ahead.py sees it, which passes where the test or a sleep says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def limited(feed: Feed, max_fps: float) -> Lane:
    lane = Lane(0, feed, ())
    lane.max_fps = max_fps
    return lane


def test_a_limited_lane_takes_so_many_frames_a_second_and_counts_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("edgeclip.runtime.ahead.time", clock)
    lane, kept = limited(Feed(0, live=True), 10.0), 0
    for _ in range(200):  # two seconds of a hundred a second
        clock.sleep(0.01)
        kept += lane.takes_next()
    assert kept == pytest.approx(20, abs=1)
    assert lane.drops == 200 - kept


def test_a_limited_film_is_slowed_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also to less than five frames a second, which is how often an end is looked for."""
    for max_fps in (50.0, 1.0):
        clock = Clock()
        monkeypatch.setattr("edgeclip.runtime.ahead.time", clock)
        lane, began_s = limited(Feed(0), max_fps), clock.now_s
        assert all(lane.takes_next() for _ in range(12))  # the first two of them at once
        assert clock.now_s - began_s == pytest.approx(10 / max_fps)
        assert lane.drops == 0


def test_a_film_that_is_slowed_to_a_frame_a_minute_still_ends_at_once() -> None:
    ahead = Ahead([Feed(50)], Preprocess)
    ahead.lanes[0].max_fps = 1 / 60
    with ahead:
        frames = ahead.frames(never)
        assert [next(frames).frame.index for _ in range(2)] == [0, 1]  # both at once
        time.sleep(0.1)
        assert not has_waiting(ahead)()
    assert not ahead._threads[0].is_alive()


def test_a_lost_source_is_reported_after_its_last_frame() -> None:
    with Ahead([Feed(3, error=SourceError("gone"))], Preprocess) as ahead:
        frames = ahead.frames(never)
        assert [next(frames).frame.index for _ in range(3)] == [0, 1, 2]
        with pytest.raises(SourceError, match="gone"):
            next(frames)


def test_a_failing_preprocess_reaches_the_frame_loop() -> None:
    def broken(pixels: Pixels) -> Batch:
        raise ValueError("no such size")

    with Ahead([Feed(3)], lambda _: broken) as ahead, pytest.raises(ValueError, match="no such size"):
        next(ahead.frames(never))


def test_stop_ends_the_loop_while_it_waits_for_a_frame() -> None:
    silent = threading.Event()

    class Silent(Feed):
        def frames(self) -> Iterator[Frame]:
            silent.wait(10)
            return iter(())

        def stop(self) -> None:
            silent.set()

    asked_s = time.monotonic() + 0.3
    with Ahead([Silent(0, live=True)], Preprocess) as ahead:
        assert not list(ahead.frames(lambda: time.monotonic() > asked_s))
    assert time.monotonic() - asked_s < 8  # of the ten that the source is silent
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead-")]


def test_a_second_loop_goes_on_where_the_first_stopped() -> None:
    with Ahead([Feed(10)], Preprocess) as ahead:
        for prepared in ahead.frames(never):
            if prepared.frame.index == 3:
                break
        assert [prepared.frame.index for prepared in ahead.frames(never)] == [4, 5, 6, 7, 8, 9]
        assert not list(ahead.frames(never))


def test_leaving_early_ends_the_threads() -> None:
    feed = Feed(10_000)
    with Ahead([feed], Preprocess) as ahead:
        next(ahead.frames(never))
    assert feed.stopped
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead-")]
