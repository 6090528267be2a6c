from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from edgeclip.errors import SourceError
from edgeclip.runtime.ahead import Ahead, Batch
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

    def __init__(self) -> None:
        self._buffer = np.zeros((1, 2, 2, 3), np.uint8)

    def __call__(self, pixels: Pixels) -> Batch:
        self._buffer[0] = pixels
        return self._buffer


def never() -> bool:
    return False


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
        time.sleep(0.3)
        seen = [prepared.frame.index for prepared in ahead.frames(never)]
    assert seen[-1] == 499
    assert len(seen) + ahead.lanes[0].drops == 500
    assert ahead.lanes[0].drops > 0


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
        time.sleep(0.2)
        seen = [(prepared.lane, prepared.frame.source) for prepared in ahead.frames(never)]
    assert sorted(seen) == [(0, "a")] * 50 + [(1, "b")] * 50
    assert len({source for _, source in seen[:10]}) == 2


def test_an_engine_that_takes_several_gets_what_waits_of_all_sources_in_their_turns() -> None:
    feeds = [Feed(6, name="a"), Feed(6, name="b"), Feed(2, name="c", error=SourceError("gone"))]
    groups: list[list[str]] = []

    def look(ahead: Ahead) -> None:
        for group in ahead.groups(never, most=4):
            groups.append([f"{prepared.frame.source}{prepared.frame.index}" for prepared in group])
            time.sleep(0.1)

    with Ahead(feeds, Preprocess) as ahead:
        time.sleep(0.2)
        with pytest.raises(SourceError, match="gone"):
            look(ahead)
    assert sorted(groups[0][:3]) == ["a0", "b0", "c0"]
    assert all(len(group) <= 4 for group in groups)
    assert "c1" in {name for group in groups for name in group}  # nothing is lost that came before the error
    for name in "ab":
        indices = [int(seen[1:]) for group in groups for seen in group if seen[0] == name]
        assert indices == list(range(len(indices)))


def test_a_group_is_never_waited_for() -> None:
    with Ahead([Ticking(20, "yard"), Ticking(20, "door")], Preprocess) as ahead:
        end_s = time.monotonic() + 1.0
        ages_ms = [
            (time.monotonic_ns() - prepared.frame.captured_ns) / 1e6
            for group in ahead.groups(lambda: time.monotonic() > end_s, most=8)
            for prepared in group
        ]
    assert len(ages_ms) > 20
    assert np.median(ages_ms) < 25.0


class Ticking(Feed):
    """A live source at a rate of its own."""

    def __init__(self, fps: float, name: str) -> None:
        super().__init__(0, live=True, name=name)
        self._period_s = 1.0 / fps

    def frames(self) -> Iterator[Frame]:
        index = 0
        while not self.stopped:
            time.sleep(self._period_s)
            yield Frame(np.zeros((2, 2, 3), np.uint8), index, time.monotonic_ns(), 0, self._name)
            index += 1


def seen_within(feeds: list[Feed], seconds: float, engine_s: float) -> dict[str, list[float]]:
    """What an engine that takes engine_s for a frame gets to see: the ages in milliseconds, by source."""
    ages_ms: dict[str, list[float]] = {feed._name: [] for feed in feeds}
    end_s = time.monotonic() + seconds
    with Ahead(feeds, Preprocess) as ahead:
        for prepared in ahead.frames(lambda: time.monotonic() > end_s):
            time.sleep(engine_s)
            ages_ms[prepared.frame.source].append((time.monotonic_ns() - prepared.frame.captured_ns) / 1e6)
    return ages_ms


def test_a_source_that_floods_starves_no_other() -> None:
    """Two cameras beside a source without end that is as fast as it can: the engine is theirs in turn."""
    feeds: list[Feed] = [Feed(10**9, name="flood"), Ticking(10, "yard"), Ticking(10, "door")]
    ages_ms = seen_within(feeds, 2.0, engine_s=0.02)
    for camera in ("yard", "door"):
        assert len(ages_ms[camera]) >= 14, ages_ms  # of 20: all that came, but for a busy machine
        assert np.median(ages_ms[camera]) < 3 * 20 + 30  # its own turn, and at most one of each other's
    assert len(ages_ms["flood"]) > 20


def test_two_floods_share_the_engine_evenly() -> None:
    """A film, which queues its frames, and a live source, which replaces them."""
    ages_ms = seen_within([Feed(10**9, name="film"), Ticking(1000, "live")], 1.5, engine_s=0.01)
    film, live = len(ages_ms["film"]), len(ages_ms["live"])
    assert 0.8 < film / live < 1.25


def test_a_limited_lane_takes_so_many_frames_a_second_and_counts_the_others() -> None:
    feed = Ticking(100, "yard")
    end_s = time.monotonic() + 2.0
    ahead = Ahead([feed], Preprocess)
    lane = ahead.lanes[0]
    lane.max_fps = 10.0
    with ahead:
        seen = list(ahead.frames(lambda: time.monotonic() > end_s))
    assert 14 <= len(seen) <= 22
    assert lane.drops > 50


def test_a_limited_film_is_slowed_and_loses_nothing() -> None:
    ahead = Ahead([Feed(10)], Preprocess)
    ahead.lanes[0].max_fps = 50.0
    began_s = time.monotonic()
    with ahead:
        assert [prepared.frame.index for prepared in ahead.frames(never)] == list(range(10))
    assert time.monotonic() - began_s > 0.15


def test_a_film_that_is_slowed_to_less_than_five_frames_a_second_keeps_to_that_and_still_ends_at_once() -> None:
    ahead = Ahead([Feed(50)], Preprocess)
    ahead.lanes[0].max_fps = 1.0
    began_s = time.monotonic()
    with ahead:
        frames = ahead.frames(never)
        assert [next(frames).frame.index for _ in range(3)] == [0, 1, 2]
        assert time.monotonic() - began_s > 0.9
        ended_s = time.monotonic()
    assert time.monotonic() - ended_s < 0.8


def test_a_lost_source_is_reported_after_its_last_frame() -> None:
    with Ahead([Feed(3, error=SourceError("gone"))], Preprocess) as ahead:
        frames = ahead.frames(never)
        assert [next(frames).frame.index for _ in range(3)] == [0, 1, 2]
        with pytest.raises(SourceError, match="gone"):
            next(frames)


def test_a_failing_preprocess_reaches_the_frame_loop() -> None:
    def broken(pixels: Pixels) -> Batch:
        raise ValueError("no such size")

    with Ahead([Feed(3)], lambda: broken) as ahead, pytest.raises(ValueError, match="no such size"):
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
    assert time.monotonic() - asked_s < 2
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
