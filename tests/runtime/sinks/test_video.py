from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import pytest

from edgeclip.errors import ConfigError, UsageError
from edgeclip.runtime.sinks.video import Video
from edgeclip.types import Frame
from sinks.picture import decision, frame, setting

FOLDER = Path(__file__).parent


def recorded(path: Path, frames: Sequence[Frame], *, live: bool, fps: float | None = 10.0) -> list[tuple[int, int]]:
    """Record the frames; the (height, width) of every picture that a player gets to see."""
    sink = Video(str(path), setting(live=live, fps=fps))
    sink.open()
    for one in frames:
        sink.write(decision(one), one)
        assert not path.exists()
    sink.close()
    capture = cv2.VideoCapture(str(path))
    sizes = []
    while (got := capture.read())[0]:
        sizes.append(got[1].shape[:2])
    return sizes


def at(index: int, second: float) -> Frame:
    return frame(index, int(second * 1e9), height=360, width=480)


def test_a_film_gives_one_picture_a_decision(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    assert recorded(path, [at(index, index / 1000) for index in range(12)], live=False) == [(360, 480)] * 12
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


def test_a_live_recording_lasts_as_long_as_the_event(tmp_path: Path) -> None:
    slow = [at(index, index * 0.5) for index in range(5)]  # 2 s at 2 decisions a second
    fast = [at(index, index * 0.02) for index in range(101)]  # 2 s at 50
    assert len(recorded(tmp_path / "slow.mp4", slow, live=True)) == pytest.approx(21, abs=1)
    assert len(recorded(tmp_path / "fast.mp4", fast, live=True)) == pytest.approx(21, abs=1)


def test_an_hour_without_a_source_is_not_recorded(tmp_path: Path) -> None:
    assert len(recorded(tmp_path / "out.mp4", [at(0, 0), at(1, 3600)], live=True)) < 30


def test_a_source_that_changes_its_size_is_fitted(tmp_path: Path) -> None:
    frames = [frame(0, height=360, width=480), frame(1, height=481, width=643)]
    assert recorded(tmp_path / "out.mp4", frames, live=False, fps=None) == [(360, 480)] * 2


def test_without_a_frame_nothing_is_left(tmp_path: Path) -> None:
    sink = Video(str(tmp_path / "out.mp4"), setting())
    sink.open()
    sink.close()
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_recorded_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.mp4"):
        Video(str(tmp_path / "out.avi"), setting()).open()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        Video(str(tmp_path / "file" / "out.mp4"), setting()).open()


def test_a_recording_that_finds_no_room_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    """OpenCV says nothing of a write that failed. A limit on the size of files stands for the full disk."""
    code = f"""
import resource, signal, sys
sys.path[:0] = [{str(FOLDER)!r}, {str(FOLDER.parent)!r}]
from pathlib import Path
from test_video import at, recorded
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
recorded(Path({str(tmp_path / "out.mp4")!r}), [at(index, index / 10) for index in range(12)], live=False)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "cannot write all of" in done.stderr
    assert "disk may be full" in done.stderr
    assert list(tmp_path.iterdir()) == []
