"""Live sources: the newest frame wins, and a supervisor opens, stops and ends.

Upper time limits are several times what a quiet machine needs; `make faults` measures what is promised.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import numpy as np
import pytest
from rtsp_server import RtspServer, moving_bar
from supervised import Fake, at_50_fps, seconds_until, watching

from edgeclip.errors import SourceError
from edgeclip.runtime.sources import open_source
from edgeclip.runtime.supervisor import Supervisor
from edgeclip.types import Pixels


def test_the_newest_frame_wins_and_its_age_stays_small() -> None:
    with Supervisor(lambda: Fake(at_50_fps)) as supervisor:
        frames, ages_s = [], []
        for frame in itertools.islice(supervisor.frames(), 8):
            ages_s.append((time.monotonic_ns() - frame.captured_ns) / 1e9)
            frames.append(frame)
            time.sleep(0.25)
        drops = supervisor.drops
    gaps = sum(b.index - a.index - 1 for a, b in itertools.pairwise(frames))
    assert 20 < gaps <= drops
    assert max(ages_s) < 1.0  # a queue would be 1.6 s behind by now


def test_a_rate_limit_is_not_counted_as_drops() -> None:
    def limited() -> Fake:
        source = Fake(at_50_fps, fps=50.0)
        source.max_fps = 10.0
        return source

    supervisor = Supervisor(limited)
    with watching(supervisor) as frames:
        time.sleep(1.5)
    assert 5 <= len(frames) <= 17
    assert supervisor.drops < 5


def test_drops_are_none_when_the_user_is_fast_enough() -> None:
    supervisor = Supervisor(lambda: Fake(at_50_fps))
    with watching(supervisor) as frames:
        time.sleep(0.6)
    assert len(frames) > 5
    assert supervisor.drops <= len(frames) // 5


def test_a_source_that_never_opened_raises_at_once() -> None:
    start = time.monotonic()
    with pytest.raises(SourceError, match="/dev/video97"), Supervisor(lambda: open_source("camera:97")):
        pass
    assert time.monotonic() - start < 5


def test_wait_waits_for_a_source_that_is_not_there_yet() -> None:
    with RtspServer() as server:
        url = server.url
        server.stop()
        events: list[str] = []
        supervisor = Supervisor(lambda: open_source(url), wait=True, on_event=events.append)
        with watching(supervisor) as frames:
            seconds_until(lambda: supervisor.state == "lost")
            assert supervisor.last_error is not None
            server.start()
            seconds_until(lambda: bool(frames))
            assert supervisor.reconnects == 0  # it has come, not come back
            server.stop()
            seconds_until(lambda: supervisor.state == "lost")
            server.start()
            seconds_until(lambda: supervisor.reconnects == 1)
    assert "not there yet: rtsp://" in events[0]
    assert "retrying in" in events[0]
    told = [event for event in events if event.startswith(url)]
    assert [" is there after " in told[0], " is back after " in told[-1]] == [True, True]


def test_a_close_that_fails_does_not_keep_the_end_from_its_user() -> None:
    class Breaks(Fake):
        def close(self) -> None:
            raise RuntimeError("the driver's last word")

    source = Breaks(lambda index: moving_bar(index) if index < 3 else None, live=False)
    seen: list[int] = []

    def read() -> None:
        with Supervisor(lambda: source) as supervisor, pytest.raises(RuntimeError, match="last word"):
            seen.extend(frame.index for frame in supervisor.frames())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(10)
    assert not reader.is_alive()
    assert seen == [0, 1, 2]


@contextmanager
def at_step(function: Callable[..., object], number: int, do: Callable[[], object]) -> Iterator[list[int]]:
    """Calls do() before that bytecode instruction of the function; gives the steps taken."""
    steps: list[int] = []

    def trace(frame: FrameType, event: str, _: object) -> object:
        if frame.f_code is not function.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            steps.append(frame.f_lasti)
            if len(steps) == number:
                do()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield steps
    finally:
        sys.settrace(before)


def test_drops_may_be_asked_while_a_connection_is_left() -> None:
    """By other threads, wherever either is in its work; and they never go down, which a counter must not."""

    def fails(_: int) -> Pixels:
        raise SourceError("gone")  # before its first frame: the reader, too, would count drops

    supervisor = Supervisor(lambda: Fake(fails))

    def connect_and_drop() -> None:
        supervisor._connect()
        supervisor._connection.box.discarded = 1  # type: ignore[union-attr]

    answers: list[int] = []
    ask = lambda: answers.append(supervisor.drops)  # noqa: E731
    for number in range(1, 100):
        connect_and_drop()
        ask()
        with at_step(Supervisor._leave, number, ask) as steps:
            supervisor._leave()
        ask()
    assert 20 < len(steps) < 100
    for number in range(1, 50):
        connect_and_drop()
        ask()
        with at_step(type(supervisor).drops.fget, number, supervisor._leave) as steps:  # type: ignore[attr-defined]
            ask()
        supervisor._leave()
        ask()
    assert 5 < len(steps) < 50
    assert answers == sorted(answers)


def test_a_bug_in_a_source_is_not_retried() -> None:
    def step(index: int) -> Pixels:
        return {0: moving_bar(0)}[index]

    with Supervisor(lambda: Fake(step)) as supervisor, pytest.raises(KeyError):
        list(supervisor.frames())


@pytest.mark.parametrize("behaviour", ["streaming", "hanging", "lost"])
def test_stop_ends_the_iteration_promptly(behaviour: str) -> None:
    release = threading.Event()

    def step(index: int) -> Pixels:
        if index > 3 and behaviour == "hanging":
            release.wait()
        if index > 3 and behaviour == "lost":
            raise SourceError("gone")
        return at_50_fps(index)

    supervisor = Supervisor(lambda: Fake(step))
    with supervisor:
        asked: list[float] = []
        threading.Timer(0.4, lambda: (asked.append(time.monotonic()), supervisor.stop())).start()
        for _ in supervisor.frames():
            pass
        assert time.monotonic() - asked[0] < 3  # a fifth of a second on a quiet machine
    release.set()


def test_frames_carry_both_clocks() -> None:
    with Supervisor(lambda: Fake(at_50_fps)) as supervisor:
        frame = next(supervisor.frames())
    assert abs(time.monotonic_ns() - frame.captured_ns) < 2e9
    assert abs(time.time_ns() - frame.wall_ns) < 2e9
    assert isinstance(frame.pixels, np.ndarray)
