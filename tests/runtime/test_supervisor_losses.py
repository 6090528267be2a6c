"""Cameras that hang, come and go, or lie, and how often that is told.

Upper time limits are several times what a quiet machine needs, except where a limit is promised.
"""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from rtsp_server import moving_bar
from supervised import Fake, at_50_fps, seconds_until, watching

from edgeclip.errors import SourceError
from edgeclip.runtime.supervisor import Supervisor
from edgeclip.types import Pixels


def test_an_open_that_hangs_is_left() -> None:
    release = threading.Event()

    class Hangs(Fake):
        def open(self) -> None:
            release.wait()

    supervisor = Supervisor(lambda: Hangs(at_50_fps), connect_timeout_s=0.3)
    with pytest.raises(SourceError, match="no answer"), supervisor:
        pass
    release.set()


def test_a_read_that_never_returns_is_left_and_a_fresh_source_opened() -> None:
    release = threading.Event()
    made: list[Fake] = []

    def hang_at_five(index: int) -> Pixels:
        if index == 5:
            release.wait()
        return at_50_fps(index)

    def make() -> Fake:
        made.append(Fake(hang_at_five if not made else at_50_fps))
        return made[-1]

    supervisor = Supervisor(make, stall_timeout_s=0.5)
    with watching(supervisor) as frames:
        found_s = seconds_until(lambda: supervisor.state == "lost")
        seconds_until(lambda: supervisor.reconnects == 1)
        seconds_until(lambda: len(frames) > 10)
        assert not made[0].closed.is_set()
    assert 0.4 < found_s < 5
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})
    release.set()
    assert made[0].closed.wait(2)  # by the thread that was stuck in it


def test_a_slow_camera_is_not_a_stall() -> None:
    def slowly(index: int) -> Pixels:
        time.sleep(0.5)
        return moving_bar(index, 64, 48)

    supervisor = Supervisor(lambda: Fake(slowly, fps=2.0), stall_timeout_s=0.3)
    with watching(supervisor) as frames:
        seconds_until(lambda: len(frames) == 3)
    assert supervisor.last_error is None


def test_a_rate_that_is_announced_wrongly_hides_no_stall_for_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeclip.runtime.supervisor.LONGEST_STALL_S", 0.6)
    release = threading.Event()

    def hang_at_three(index: int) -> Pixels:
        if index == 3:
            release.wait()
        return at_50_fps(index)

    supervisor = Supervisor(lambda: Fake(hang_at_three, fps=0.0001), stall_timeout_s=0.3)
    with watching(supervisor):
        seconds_until(lambda: supervisor.state == "lost")
    release.set()


def test_readers_that_hang_are_bounded() -> None:
    release = threading.Event()
    opened = itertools.count()

    def hang(index: int) -> Pixels:
        release.wait()
        return moving_bar(index)

    def make() -> Fake:
        next(opened)
        return Fake(hang)

    supervisor = Supervisor(make, stall_timeout_s=0.05)
    with watching(supervisor):
        seconds_until(lambda: "hang in the driver" in (supervisor.last_error or ""))
        time.sleep(1.5)
        assert next(opened) <= 5
        release.set()
        seconds_until(lambda: next(opened) > 5)


def test_a_camera_whose_driver_swallowed_its_reads_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeclip.runtime.outage.STUCK_PAUSE_S", 3.0)
    release = threading.Event()
    made: list[Fake] = []

    def hang(index: int) -> Pixels:
        release.wait()
        return moving_bar(index)

    def make() -> Fake:
        made.append(Fake(hang if len(made) < 5 else at_50_fps))  # the first is constructed with the supervisor
        return made[-1]

    supervisor = Supervisor(make, stall_timeout_s=0.05)
    with watching(supervisor) as frames:
        seconds_until(lambda: "4 earlier reads still hang" in (supervisor.last_error or ""))
        assert (supervisor.stuck, supervisor.stuck_at_s is None) == (4, False)
        seconds_until(lambda: bool(frames), 60)
        assert (supervisor.state, supervisor.stuck_at_s) == ("streaming", None)
    release.set()


def test_a_camera_that_comes_and_goes_is_soon_back_each_time_and_said_to_be_back_once_it_stays() -> None:
    """For half an hour already, as far as the outage knows."""
    gone: list[float] = []
    waits: list[float] = []
    made = itertools.count()

    def make() -> Fake:
        number = next(made)

        def step(index: int) -> Pixels:
            if not index and gone:
                waits.append(time.monotonic() - gone[-1])
            if index >= 125 and number < 3:
                gone.append(time.monotonic())
                raise SourceError("gone")
            return at_50_fps(index)

        return Fake(step)

    events: list[str] = []
    supervisor = Supervisor(make, on_event=events.append)
    supervisor._outage.lost(time.monotonic() - 1800.0, 0.0)
    with watching(supervisor):
        seconds_until(lambda: len(waits) == 3, 60)
        seconds_until(lambda: "is back, and has been for" in events[-1], 60)
    assert max(waits) < 2.5
    assert [" is back" in event for event in events] == [False, True, True]  # lost, back, and back to stay


def test_one_picture_repeated_too_fast_is_a_loss_and_a_static_scene_is_not() -> None:
    still = moving_bar(0)

    def flood(_: int) -> Pixels:
        time.sleep(0.002)
        return still

    def static(_: int) -> Pixels:
        time.sleep(0.03)
        return still

    broken, fine = Supervisor(lambda: Fake(flood, fps=30.0)), Supervisor(lambda: Fake(static, fps=30.0))
    with watching(broken), watching(fine):
        found_s = seconds_until(lambda: broken.state == "lost")
        assert "repeats one picture" in (broken.last_error or "")
        assert fine.last_error is None
    assert found_s < 5
    assert broken._connection is None
    assert broken._left[0].gave_s == 0.0  # what it repeats is no proof that it works


def test_trouble_that_changes_is_told_at_most_once_a_second() -> None:
    tries = itertools.count()

    def fails(_: int) -> Pixels:
        raise SourceError(f"gone, {next(tries)}")

    events: list[float] = []
    supervisor = Supervisor(lambda: Fake(fails), on_event=lambda text: events.append(time.monotonic()))
    with watching(supervisor):
        time.sleep(3)
    assert 2 <= len(events) <= 4
    assert all(b - a >= 0.9 for a, b in itertools.pairwise(events))  # tries are 0.75 s apart, at most


@pytest.mark.parametrize("ever", [False, True])
def test_that_it_is_still_gone_is_told_once_and_that_it_is_gone_for_another_reason_at_once(ever: bool) -> None:
    reason, frames = "no such name", [moving_bar(0, 64, 48)] * ever

    def fails(_: int) -> Pixels:
        if frames:
            return frames.pop()
        raise SourceError(reason)

    events: list[str] = []
    supervisor = Supervisor(lambda: Fake(fails), wait=True, on_event=events.append)
    with watching(supervisor):
        time.sleep(4)
        reason = "no such login"
        time.sleep(2)
    told = [event.partition(";")[0] for event in events]
    assert told == [f"{'lost' if ever else 'not there yet'}: {why}" for why in ("no such name", "no such login")]
