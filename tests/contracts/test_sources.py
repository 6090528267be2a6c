"""What every source promises (edgeclip.types.Source), over all that run without a device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from mjpeg_server import MjpegServer
from PIL import Image
from rtsp_server import RtspServer

from edgeclip.errors import SourceError
from edgeclip.runtime.sources import open_source
from edgeclip.types import Source

FINITE = ("picture", "directory", "glob", "video")
LIVE = ("realtime", "demo", "rtsp", "mjpeg")
ABSENT = ("camera:97", "rtsp://127.0.0.1:9/x", "http://127.0.0.1:9/x")


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Source]:
    def make_source(kind: str) -> Source:
        if kind == "rtsp":
            server: RtspServer = request.getfixturevalue("rtsp")
            return open_source(server.url)
        if kind == "mjpeg":
            stream: MjpegServer = request.getfixturevalue("mjpeg")
            return open_source(stream.url)
        if kind == "demo":
            return open_source("demo")
        for number in range(3):
            Image.new("RGB", (32, 24), (number, 99, 99)).save(tmp_path / f"{number}.png")
        clip = str(write_clip(tmp_path / "clip.mp4", 5))
        uri = {"picture": str(tmp_path / "1.png"), "directory": str(tmp_path), "glob": f"{tmp_path}/?.png"}
        return open_source(uri.get(kind, clip), realtime=kind == "realtime")

    return make_source


@pytest.mark.parametrize("kind", FINITE + LIVE)
def test_frames_are_bgr_and_their_own(kind: str, make: Callable[[str], Source]) -> None:
    source = make(kind)
    source.open()
    first = source.read()
    assert first is not None
    before = first.copy()
    second = source.read()
    for pixels in (first, second):
        if pixels is not None:
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3
            assert pixels.shape[2] == 3
            assert pixels.flags.c_contiguous
    assert second is None or not np.shares_memory(first, second)
    assert np.array_equal(first, before)
    source.close()


@pytest.mark.parametrize("kind", FINITE + LIVE)
def test_attributes(kind: str, make: Callable[[str], Source]) -> None:
    source = make(kind)
    assert source.name
    assert source.live is (kind in LIVE)
    assert source.paced is (kind in ("realtime", "demo"))
    assert source.max_fps is None
    source.open()
    assert source.fps is None or 0 < source.fps <= 1000
    assert source.fps is not None or not source.paced
    source.close()


@pytest.mark.parametrize("kind", FINITE)
def test_finite_sources_end_with_none_and_stay_ended(kind: str, make: Callable[[str], Source]) -> None:
    source = make(kind)
    source.open()
    count = 0
    while source.read() is not None:
        count += 1
    assert count == {"picture": 1, "directory": 3, "glob": 3, "video": 5}[kind]
    assert source.read() is None
    source.close()


@pytest.mark.parametrize("kind", FINITE + LIVE)
def test_close_is_safe_twice_and_before_open(kind: str, make: Callable[[str], Source]) -> None:
    source = make(kind)
    source.close()
    source.open()
    source.close()
    source.close()


@pytest.mark.parametrize("uri", ABSENT)
def test_what_is_not_there_raises_with_a_remedy(uri: str) -> None:
    source = open_source(uri)
    with pytest.raises(SourceError) as caught:
        source.open()
    assert caught.value.hint
    source.close()
