"""Upper time limits are several times what a quiet machine needs; `make faults` measures what is promised."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from clips import index_of, write_clip
from mjpeg_server import MjpegServer
from rtsp_server import RtspServer, moving_bar

from edgeclip.errors import DataError, SourceError
from edgeclip.runtime.sources import open_source
from edgeclip.runtime.supervisor import Supervisor
from edgeclip.types import Frame, Pixels

Step = Callable[[int], Pixels | None]


class Fake:
    """A source whose read number i is step(i)."""

    name = "fake"
    max_fps: float | None = None

    def __init__(self, step: Step, *, live: bool = True, paced: bool = False, fps: float | None = None) -> None:
        self.step, self.live, self.paced, self.fps = step, live, paced, fps
        self.reads, self.closed = 0, threading.Event()

    def open(self) -> None:
        self.reads = 0

    def read(self) -> Pixels | None:
        self.reads += 1
        return self.step(self.reads - 1)

    def close(self) -> None:
        self.closed.set()


def at_50_fps(index: int) -> Pixels:
    time.sleep(0.02)
    return moving_bar(index, 64, 48)


@contextmanager
def watching(supervisor: Supervisor) -> Iterator[list[Frame]]:
    """Collects frames on a thread of its own while the block runs."""
    seen: list[Frame] = []
    with supervisor:
        thread = threading.Thread(target=lambda: seen.extend(supervisor.frames()))
        thread.start()
        try:
            yield seen
        finally:
            supervisor.stop()
            thread.join(5)
            assert not thread.is_alive()


def seconds_until(condition: Callable[[], bool], limit_s: float = 15.0) -> float:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < limit_s, "it never happened"
        time.sleep(0.005)
    return time.monotonic() - start


# Files


def test_a_file_loses_nothing_however_slow_its_user(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mp4"))
    with Supervisor(lambda: open_source(clip)) as supervisor:
        frames = []
        for frame in supervisor.frames():
            frames.append(frame)
            time.sleep(0.005)
    assert [frame.index for frame in frames] == list(range(30))
    assert [index_of(frame.pixels) for frame in frames] == list(range(30))
    assert all(frame.source == clip for frame in frames)
    assert supervisor.drops == 0
    assert supervisor.state == "ended"


def test_a_rate_limit_takes_every_kth_frame_of_a_file(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mp4"))
    for fps, step in ((30, 1), (29.9, 2), (15, 2), (10, 3), (7, 5)):
        with Supervisor(lambda fps=fps: open_source(clip, fps=fps)) as supervisor:
            assert [frame.index for frame in supervisor.frames()] == list(range(0, 30, step))


def test_a_file_error_comes_after_the_frames_before_it() -> None:
    def step(index: int) -> Pixels:
        if index == 6:
            raise DataError("broken at 6")
        return moving_bar(index, 64, 48)

    seen: list[int] = []
    with Supervisor(lambda: Fake(step, live=False)) as supervisor, pytest.raises(DataError, match="broken at 6"):
        seen.extend(frame.index for frame in supervisor.frames())
    assert seen == [0, 1, 2, 3, 4, 5]


def test_realtime_plays_at_the_files_own_rate_and_ends(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mp4", 30))
    start = time.monotonic()
    with Supervisor(lambda: open_source(clip, realtime=True)) as supervisor:
        frames = list(supervisor.frames())
    assert 0.9 < time.monotonic() - start < 15
    assert len(frames) + supervisor.drops == 30
    with Supervisor(lambda: open_source(clip, realtime=True)) as supervisor:
        slow = []
        for frame in supervisor.frames():
            slow.append(frame)
            time.sleep(0.2)
    assert len(slow) < 12
    assert supervisor.drops == 30 - len(slow)
    assert slow[-1].index == 29


def test_forty_frames_of_the_demo_take_as_long_as_they_say() -> None:
    start = time.monotonic()
    with Supervisor(lambda: open_source("demo")) as supervisor:
        frames = list(itertools.islice(supervisor.frames(), 40))
    assert 1.2 < time.monotonic() - start < 30
    assert len(frames) == 40


# Live sources


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


def test_an_open_that_hangs_is_left() -> None:
    release = threading.Event()

    class Hangs(Fake):
        def open(self) -> None:
            release.wait()

    supervisor = Supervisor(lambda: Hangs(at_50_fps), connect_timeout_s=0.3)
    with pytest.raises(SourceError, match="no answer"), supervisor:
        pass
    release.set()


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


def test_a_bug_in_a_source_is_not_retried() -> None:
    def step(index: int) -> Pixels:
        return {0: moving_bar(0)}[index]

    with Supervisor(lambda: Fake(step)) as supervisor, pytest.raises(KeyError):
        list(supervisor.frames())


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


# Real servers


def test_rtsp_stall_drop_noise_and_absence(rtsp: RtspServer) -> None:
    events: list[str] = []
    supervisor = Supervisor(lambda: open_source(rtsp.url), on_event=events.append)
    with watching(supervisor) as frames:
        seconds_until(lambda: len(frames) > 5)

        rtsp.stalled = True
        seconds_until(lambda: supervisor.state == "lost")
        rtsp.stalled = False
        seconds_until(lambda: supervisor.state == "streaming")

        rtsp.drop()
        seconds_until(lambda: supervisor.state == "lost")
        seconds_until(lambda: supervisor.state == "streaming")

        rtsp.noise = 0.3
        time.sleep(1)
        rtsp.noise = 0.0
        count = len(frames)
        seconds_until(lambda: supervisor.state == "streaming" and len(frames) > count + 10)

        rtsp.stop()
        seconds_until(lambda: supervisor.state == "lost")
        time.sleep(1)
        rtsp.start()
        seconds_until(lambda: supervisor.state == "streaming")
    assert supervisor.reconnects >= 3
    assert any("is back after" in event for event in events)
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})


def test_a_flood_over_rtsp_is_a_loss_and_a_slow_camera_is_none(
    rtsp: RtspServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeclip.runtime.flood.SUSPICIOUS_FPS", 40.0)  # a busy machine may not decode 90
    supervisor = Supervisor(lambda: open_source(rtsp.url))
    with watching(supervisor) as frames:
        seconds_until(lambda: len(frames) > 5)
        rtsp.fps = 1
        time.sleep(3)
        assert supervisor.last_error is None
        rtsp.fps = 25
        rtsp.frozen = True
        seconds_until(lambda: supervisor.state == "lost")
        assert "repeats one picture" in (supervisor.last_error or "")
        rtsp.frozen = False
        seconds_until(lambda: supervisor.state == "streaming")


def test_mjpeg_stall_and_return(mjpeg: MjpegServer) -> None:
    supervisor = Supervisor(lambda: open_source(mjpeg.url))
    with watching(supervisor) as frames:
        seconds_until(lambda: len(frames) > 5)
        mjpeg.stalled = True
        seconds_until(lambda: supervisor.state == "lost")
        mjpeg.stalled = False
        seconds_until(lambda: supervisor.state == "streaming")


def test_a_process_ends_cleanly_while_a_read_hangs(rtsp: RtspServer) -> None:
    code = f"""
import signal
from edgeclip.runtime.sources import open_source
from edgeclip.runtime.supervisor import Supervisor
with Supervisor(lambda: open_source({rtsp.url!r}, read_timeout_s=20)) as supervisor:
    signal.signal(signal.SIGTERM, lambda *_: supervisor.stop())
    for number, frame in enumerate(supervisor.frames()):
        if number == 5:
            print("running", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        rtsp.stalled = True
        time.sleep(0.5)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, b"")
    assert time.monotonic() - start < 10


def test_frames_carry_both_clocks() -> None:
    with Supervisor(lambda: Fake(at_50_fps)) as supervisor:
        frame = next(supervisor.frames())
    assert abs(time.monotonic_ns() - frame.captured_ns) < 2e9
    assert abs(time.time_ns() - frame.wall_ns) < 2e9
    assert isinstance(frame.pixels, np.ndarray)
