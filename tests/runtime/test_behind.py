from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from edgeclip.errors import DataError, EdgeclipError
from edgeclip.region import Regions
from edgeclip.runtime.behind import SLOTS, Behind
from edgeclip.types import Embeddings, Frame

FRAME = Frame(np.zeros((1, 1, 3), np.uint8), 0, 0, 0, "none")


def embeddings(value: float) -> Embeddings:
    return np.full((1, 2), value, np.float32)


def test_everything_is_worked_on_in_order_by_the_time_it_is_left() -> None:
    seen: list[float] = []
    with Behind(lambda row, frame, lane, regions: seen.append(float(row[0, 0])), 2) as behind:
        for value in range(100):
            behind.put(embeddings(value), FRAME, 0)
    assert seen == list(range(100))


def test_what_work_raised_is_not_lost_where_the_source_ends_badly_too() -> None:
    failed = threading.Event()

    def work(row: Embeddings, frame: Frame, lane: int, regions: Regions) -> None:
        failed.set()
        raise EdgeclipError("the disk is full")

    with pytest.raises(EdgeclipError, match="the disk is full"), Behind(work, 2) as behind:  # noqa: PT012
        behind.put(embeddings(1), FRAME, 0)
        assert failed.wait(10)
        raise DataError("one picture could not be read")


def test_the_engine_may_overwrite_its_buffer_at_once() -> None:
    seen: list[float] = []

    def slow(row: Embeddings, frame: Frame, lane: int, regions: Regions) -> None:
        time.sleep(0.005)
        seen.append(float(row[0, 0]))

    buffer = embeddings(0)
    with Behind(slow, 2) as behind:
        for value in range(10):
            buffer[:] = value
            behind.put(buffer, FRAME, 0)
        buffer[:] = -1
    assert seen == list(range(10))


def test_the_engine_waits_for_slow_work_and_runs_no_further_ahead() -> None:
    going, began = threading.Event(), threading.Event()

    def held(row: Embeddings, frame: Frame, lane: int, regions: Regions) -> None:
        began.set()
        going.wait(10)

    put = []

    def engine(behind: Behind) -> None:
        for value in range(10):
            behind.put(embeddings(value), FRAME, 0)
            put.append(value)

    with Behind(held, 2) as behind:
        thread = threading.Thread(target=engine, args=(behind,))
        thread.start()
        assert began.wait(10)
        end_s = time.monotonic() + 10
        while len(put) < SLOTS:
            assert time.monotonic() < end_s
            time.sleep(0.001)
        time.sleep(0.1)  # for one more, which there is not
        assert len(put) == SLOTS
        going.set()
        thread.join(10)
    assert len(put) == 10


def test_an_error_comes_back_and_ends_the_work() -> None:
    seen: list[float] = []

    def broken(row: Embeddings, frame: Frame, lane: int, regions: Regions) -> None:
        seen.append(float(row[0, 0]))
        raise ValueError("no room")

    def all_of_them() -> None:
        with Behind(broken, 2) as behind:
            for value in range(1000):
                behind.put(embeddings(value), FRAME, 0)

    with pytest.raises(ValueError, match="no room"):
        all_of_them()
    assert seen == [0.0]


def test_an_error_of_the_last_one_comes_back_too() -> None:
    def broken(row: Embeddings, frame: Frame, lane: int, regions: Regions) -> None:
        time.sleep(0.05)
        raise ValueError("no room")

    def the_last() -> None:
        with Behind(broken, 2) as behind:
            behind.put(embeddings(0), FRAME, 0)

    with pytest.raises(ValueError, match="no room"):
        the_last()


def test_it_finishes_last_on_the_same_thread_also_where_the_frame_loop_fails() -> None:
    seen: list[tuple[str, str]] = []

    def note(what: str) -> None:
        seen.append((what, threading.current_thread().name))

    def run() -> None:
        with Behind(lambda *_: note("work"), 2, lambda: note("finish")) as behind:
            behind.put(embeddings(1), FRAME, 0)
            raise KeyError("source")

    with pytest.raises(KeyError):
        run()
    assert [what for what, _ in seen] == ["work", "finish"]
    assert len({thread for _, thread in seen}) == 1


def test_what_failed_is_not_finished() -> None:
    def broken(*_: object) -> None:
        raise ValueError("nobody reads")

    finished: list[int] = []
    with pytest.raises(ValueError, match="nobody reads"), Behind(broken, 2, lambda: finished.append(1)) as behind:
        behind.put(embeddings(1), FRAME, 0)
    assert not finished


def test_rows_may_become_more() -> None:
    seen: list[int] = []
    with Behind(lambda rows, frame, lane, regions: seen.append(len(rows)), 2) as behind:
        for rows in (1, 3, 1, 2):
            behind.put(np.zeros((rows, 2), np.float32), FRAME, 0)
    assert seen == [1, 3, 1, 2]
