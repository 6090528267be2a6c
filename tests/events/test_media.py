from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from edgeclip.events.media import CLIPS, Limits, Media
from edgeclip.events.retention import CLOCK, Retention
from edgeclip.types import Frame
from events.made import until

STEP_NS = 100_000_000  # 10 frames a second


def shot(index: int, side: int = 64) -> Frame:
    return Frame(np.full((48, side, 3), 2 * index, np.uint8), index, index * STEP_NS, index * STEP_NS, "demo")


def play(media: Media, begin: int, end: int, last: int) -> tuple[str | None, str | None]:
    """An event from frame `begin` to frame `end`, of `last` frames; slowly enough for the encoder."""
    paths: tuple[str | None, str | None] = (None, None)
    for index in range(last):
        media.frame(shot(index))
        if index == begin:
            paths = media.begin("event", shot(index))
        if index == end:
            media.end("event", shot(index))
        until(lambda: media._tasks.empty())
    return paths


def test_a_clip_holds_what_was_before_and_after(tmp_path: Path) -> None:
    media = Media(tmp_path, Limits(before_s=2.0, after_s=1.0), None, print)
    media.start()
    snapshot, clip = play(media, 50, 60, 90)
    assert snapshot is not None
    assert clip is not None
    until(lambda: Path(clip).exists())
    media.stop(10)
    picture = cv2.imread(snapshot)
    assert picture is not None
    assert abs(float(picture.mean()) - 100) < 3  # frame 50
    film = cv2.VideoCapture(clip)
    levels = []
    while (read := film.read())[0]:
        levels.append(float(read[1].mean()))
    assert abs(levels[0] - 2 * 30) < 8
    assert abs(levels[-1] - 2 * 70) < 8
    assert abs(len(levels) / film.get(cv2.CAP_PROP_FPS) - 4.0) < 0.5
    assert not list(tmp_path.rglob("*.part*"))


def test_a_clip_under_way_is_written_when_the_run_ends(tmp_path: Path) -> None:
    media = Media(tmp_path, Limits(), None, print)
    media.start()
    _, clip = play(media, 10, 999, 20)
    media.stop(10)
    assert clip is not None
    assert Path(clip).exists()


def test_large_frames_are_kept_small(tmp_path: Path) -> None:
    media = Media(tmp_path, Limits(), None, print)
    media.start()
    snapshot, _ = media.begin("event", shot(1, side=1920))
    media.stop(10)
    assert snapshot is not None
    assert cv2.imread(snapshot).shape[:2] == (16, 640)


def test_memory_is_bounded_and_the_caller_never_waits(tmp_path: Path) -> None:
    media = Media(tmp_path, Limits(memory=20_000, longest_s=1000.0), None, print)
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    for index in range(100):  # not started: nobody takes anything
        media.frame(Frame(noise, index, index * 10**9, 0, "demo"))
    assert media.left_out > 80
    media.start()
    media.begin("event", Frame(noise, 100, 100 * 10**9, 0, "demo"))
    for index in range(101, 130):
        media.frame(Frame(noise, index, index * 10**9, 0, "demo"))
        until(lambda: media._tasks.empty())
    assert media._bytes() <= 40_000
    media.stop(10)


def test_only_so_many_events_are_filmed_at_once(tmp_path: Path) -> None:
    media = Media(tmp_path, Limits(), None, print)
    media.start()
    paths = []
    for number in range(CLIPS + 2):
        paths.append(media.begin(f"event{number}", shot(1)))
        until(lambda: media._tasks.empty())
    media.stop(10)
    assert [clip is not None for _, clip in paths] == [True] * CLIPS + [False, False]


def test_a_place_that_cannot_be_written_is_said_and_counted(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "media").write_text("in the way")
    media = Media(tmp_path / "media", Limits(), None, told.append)
    media.start()
    media.begin("event", shot(1))
    media.stop(10)
    assert media.failed == 2
    assert "could not be written" in told[0]
    assert len(told) == 1


def test_what_is_too_old_goes_though_nothing_happens(tmp_path: Path) -> None:
    old = tmp_path / "2026-01-01" / "old.jpg"
    old.parent.mkdir()
    old.touch()
    os.utime(old, (time.time() - 2 * 86_400, time.time() - 2 * 86_400))
    (tmp_path / CLOCK).touch()
    media = Media(tmp_path, Limits(days=1.0), None, print)
    media.start()
    until(lambda: not old.exists())
    media.stop(10)


def test_pictures_written_in_1970_are_there_when_the_network_has_set_the_clock(tmp_path: Path) -> None:
    media = Media(tmp_path, Limits(), None, print)
    wall_s = 1000.0
    media._retention = Retention(tmp_path, 1e9, 30 * 86_400.0, lambda: wall_s)
    media.start()
    snapshot, _ = media.begin("event", shot(1))
    assert snapshot is not None
    until(Path(snapshot).exists)
    os.utime(snapshot, (wall_s, wall_s))
    wall_s = time.time()
    media.begin("another", shot(2))
    media.stop(10)
    assert Path(snapshot).exists()


def test_a_frame_that_no_jpeg_can_be_made_of_ends_nothing(tmp_path: Path) -> None:
    media = Media(tmp_path, Limits(), None, print)
    media.start()
    media.begin("bad", Frame(np.empty((0, 0, 3), np.uint8), 0, 0, 0, "demo"))
    snapshot, _ = play(media, 1, 2, 4)
    media.stop(10)
    assert media.failed == 1
    assert snapshot is not None
    assert Path(snapshot).exists()


def test_cameras_that_die_while_something_holds_leave_the_others_their_clips(tmp_path: Path) -> None:
    media = Media(tmp_path, Limits(longest_s=2.0), None, print)
    media.start()
    for number in range(CLIPS):
        assert media.begin(f"dead{number}", replace(shot(0), source=f"dead{number}"))[1] is not None
    until(lambda: media._tasks.empty())
    for index in range(40):
        media.frame(shot(index))
        until(lambda: media._tasks.empty())
    assert media.begin("alive", shot(40))[1] is not None
    media.stop(10)


def test_a_clip_that_finds_no_room_is_no_clip(tmp_path: Path) -> None:
    """In a process that may write no file beyond 20 kB, as a full disk would not let it."""
    code = f"""
import resource
from pathlib import Path
import cv2
import numpy as np
from edgeclip.events.media import Picture, write_mp4
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
jpeg = cv2.imencode(".jpg", noise)[1].tobytes()
write_mp4(Path({str(tmp_path / "day" / "clip.mp4")!r}), [Picture(step * 125_000_000, jpeg) for step in range(20)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "not all of the clip was written" in done.stderr
    assert list((tmp_path / "day").iterdir()) == []
