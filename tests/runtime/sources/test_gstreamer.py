"""Pipelines as text; running one needs a system OpenCV with GStreamer, which CI has not."""

from __future__ import annotations

import re

import cv2
import pytest

from edgeclip.errors import SourceError
from edgeclip.runtime.sources import open_source
from edgeclip.runtime.sources.gstreamer import completed_pipeline, csi_pipeline

END = "videoconvert ! video/x-raw,format=BGR ! appsink max-buffers=1 drop=true sync=false"


def test_csi_pipeline() -> None:
    assert csi_pipeline("csi://1?width=1920&height=1080&flip=2") == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1920,height=1080,framerate=30/1 ! "
        f"nvvidconv flip-method=2 ! video/x-raw,format=BGRx ! {END}"
    )


@pytest.mark.parametrize(
    "uri", ["csi://", "csi://a", "csi://0/1", "csi://0?wide=3", "csi://0?fps=fast", "csi://0?fps="]
)
def test_csi_addresses_are_checked(uri: str) -> None:
    with pytest.raises(SourceError, match="not a CSI camera address"):
        csi_pipeline(uri)


def test_a_pipeline_gets_its_end_unless_it_has_one() -> None:
    assert completed_pipeline("videotestsrc") == f"videotestsrc ! {END}"
    assert completed_pipeline("videotestsrc ! appsink") == "videotestsrc ! appsink"
    assert completed_pipeline("rtsp://host/x") == f'uridecodebin uri="rtsp://host/x" ! {END}'


@pytest.mark.parametrize("uri", ["csi://0", "gst:rtspsrc location=rtsp://a:secret@host/x"])
def test_without_gstreamer_it_says_what_is_missing_and_how_to_get_it(uri: str) -> None:
    if re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(SourceError, match=r"needs GStreamer, and this OpenCV .* is built without it") as caught:
        open_source(uri)
    assert "python3-opencv" in caught.value.hint
    assert "--system-site-packages" in caught.value.hint
    assert "secret" not in caught.value.message
