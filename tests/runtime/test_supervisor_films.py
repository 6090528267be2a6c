"""Films: every frame, in order, at their own rate where that is asked."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
from clips import index_of, write_clip
from rtsp_server import moving_bar
from supervised import Fake

from edgeclip.errors import DataError
from edgeclip.runtime.sources import open_source
from edgeclip.runtime.supervisor import Supervisor
from edgeclip.types import Pixels


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
