from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeclip.errors import UNAVAILABLE, SourceError
from edgeclip.runtime.sources.camera import Camera


def test_without_a_camera_there_is_one_clear_message() -> None:
    with pytest.raises(SourceError, match="/dev/video97: the device does not exist") as caught:
        Camera("97").open()
    assert caught.value.exit_code == UNAVAILABLE
    assert "ls /dev/video*" in caught.value.hint


def test_opencv_is_silent_about_a_missing_camera() -> None:
    code = (
        "import cv2\nfrom edgeclip.runtime.sources.capture import opened\n"
        "assert opened('/dev/video97', cv2.CAP_V4L2) is None\n"
        "assert opened('rtsp://user:secret@127.0.0.1:9/x', cv2.CAP_FFMPEG) is None\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_permission_denied_names_the_group(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.touch(mode=0)
    with pytest.raises(SourceError, match="permission denied") as caught:
        Camera(str(device)).open()
    assert "usermod -aG video" in caught.value.hint


def test_a_file_that_is_no_device_is_refused(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.touch()
    with pytest.raises(SourceError, match="not a video device"):
        Camera(str(device)).open()
