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
