"""Against real servers on the loopback."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from mjpeg_server import MjpegServer
from rtsp_server import RtspServer, moving_bar

from edgeclip.errors import SourceError
from edgeclip.runtime.sources import network
from edgeclip.runtime.sources.capture import next_picture
from edgeclip.runtime.sources.network import NetworkStream


def read_for(source: NetworkStream, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        source.read()


def open_and_read(source: NetworkStream) -> None:
    source.open()
    source.read()


def test_rtsp_is_read_over_tcp(rtsp: RtspServer) -> None:
    source = NetworkStream(rtsp.url)
    source.open()
    one, other = source.read(), source.read()
    assert source.fps == 25
    assert one.shape == (240, 320, 3)
    assert not np.array_equal(one, other)
    source.close()
    with pytest.raises(SourceError):
        source.read()


def test_a_slow_camera_is_opened_without_waiting_for_thirty_frames() -> None:
    with RtspServer(fps=5) as server:
        source = NetworkStream(server.url, open_timeout_s=30.0)
        open_and_read(source)
        assert server.sent_frames < 30  # 24 here, ten of them up to the first key frame; 37 without
        assert source.fps == 5
        source.close()


def test_mjpeg_over_http(mjpeg: MjpegServer) -> None:
    source = NetworkStream(mjpeg.url)
    source.open()
    one, other = source.read(), source.read()
    assert one.shape == (240, 320, 3)
    assert not np.array_equal(one, other)
    source.close()


def test_damaged_packets_are_read_past(rtsp: RtspServer) -> None:
    """What came while it was opened is garbage, and there is much of it before the first picture."""
    rtsp.noise = 1.0
    threading.Timer(1.0, lambda: setattr(rtsp, "noise", 0.0)).start()
    source = NetworkStream(rtsp.url, open_timeout_s=10.0)
    open_and_read(source)
    source.close()


def test_nothing_but_damage_is_a_loss_within_seconds(rtsp: RtspServer) -> None:
    source = NetworkStream(rtsp.url)
    open_and_read(source)
    rtsp.noise, begun_s = 1.0, time.monotonic()
    with pytest.raises(SourceError, match="stopped delivering"):
        read_for(source, 30)
    assert time.monotonic() - begun_s <= 5
    source.close()


def test_another_resolution_is_scaled_to_the_first(rtsp: RtspServer) -> None:
    source = NetworkStream(rtsp.url)
    open_and_read(source)
    right_half = np.zeros((360, 640, 3), np.uint8)
    right_half[:, 320:] = 255
    rtsp.picture_at = lambda index: right_half
    for _ in range(60):
        picture = source.read()
    source.close()
    assert picture.shape == (240, 320, 3)
    assert picture[:, :150].mean() < 10
    assert picture[:, 170:].mean() > 240


def test_a_silent_stream_fails_after_about_twice_the_read_timeout(rtsp: RtspServer) -> None:
    source = NetworkStream(rtsp.url, read_timeout_s=0.5)
    source.open()
    source.read()
    rtsp.stalled = True
    start = time.monotonic()
    with pytest.raises(SourceError, match="stopped delivering"):
        read_for(source, 10)
    assert time.monotonic() - start < 5
    source.close()


def test_opening_a_silent_server_ends_at_the_open_timeout(rtsp: RtspServer) -> None:
    rtsp.stalled = True
    source = NetworkStream(rtsp.url, open_timeout_s=0.5, read_timeout_s=0.5)
    start = time.monotonic()
    with pytest.raises(SourceError):
        open_and_read(source)
    assert time.monotonic() - start < 8
    source.close()


def test_the_password_is_used_and_never_shown() -> None:
    with RtspServer(password="sec/ret@") as server:
        wrong = NetworkStream(server.url.replace("//", "//cam:guess@"))
        with pytest.raises(SourceError, match=r"rtsp://\*\*\*@127.0.0.1:\d+/camera: .* not take the login") as caught:
            wrong.open()
        assert "guess" not in caught.value.message + caught.value.hint
        right = NetworkStream(server.url.replace("//", "//cam:sec%2Fret%40@"))
        right.open()
        assert right.read().any()
        right.close()
        assert "sec" not in right.name


def test_a_picture_that_opencv_chokes_on_is_a_loss_and_ends_nothing() -> None:
    class Choking:
        def read(self) -> tuple[bool, None]:
            raise cv2.error("(-215:Assertion failed) buf.checkVector(1, CV_8U) > 0 in function 'imdecode_'")

    assert next_picture(Choking()) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("seen_before", [(320, 240), None])
def test_a_resolution_that_only_damage_gave_is_not_believed(
    rtsp: RtspServer, monkeypatch: pytest.MonkeyPatch, seen_before: tuple[int, int] | None
) -> None:
    """Else all of a sound stream would be scaled to it, until it is lost again."""
    really_opened, openings = network.opened, []

    class Damaged(NamedTuple):
        capture: cv2.VideoCapture

        def get(self, _: int) -> float:
            return 16.0

        def release(self) -> None:
            self.capture.release()

    def opened(*arguments: Any) -> Any:
        openings.append(really_opened(*arguments))
        return Damaged(openings[0]) if len(openings) == 1 else openings[-1]

    monkeypatch.setattr(network, "opened", opened)
    monkeypatch.setattr(network, "_last_sizes", {rtsp.url: seen_before} if seen_before else {})
    source = NetworkStream(rtsp.url)
    open_and_read(source)
    assert source.read().shape == (240, 320, 3)
    assert len(openings) == 2
    source.close()


def test_a_camera_that_comes_back_with_another_resolution_is_believed_at_its_second_opening() -> None:
    with RtspServer(lambda index: moving_bar(index, 640, 360)) as server:
        source = NetworkStream(server.url)
        network._last_sizes[server.url] = (320, 240)
        open_and_read(source)
        assert source.read().shape == (360, 640, 3)
        assert network._last_sizes[server.url] == (640, 360)
        source.close()


def test_a_silent_stream_gives_no_old_picture_for_a_new_one(rtsp: RtspServer) -> None:
    source = NetworkStream(rtsp.url, read_timeout_s=0.8)
    open_and_read(source)
    read_for(source, 1.0)
    rtsp.stalled, stalled_s = True, time.monotonic()
    given_s = [0.0]

    def read_on() -> None:
        while True:
            source.read()
            given_s.append(time.monotonic() - stalled_s)

    with pytest.raises(SourceError, match="stopped delivering"):
        read_on()
    assert max(given_s) < 0.6  # what was under way; FFmpeg gives up after 0.8 s, and hands on what it held back
    assert 1.2 < time.monotonic() - stalled_s < 3.0
    source.close()


def test_a_stream_that_is_silent_for_less_than_twice_the_time_out_goes_on(rtsp: RtspServer) -> None:
    source = NetworkStream(rtsp.url, read_timeout_s=0.8)
    open_and_read(source)
    rtsp.stalled = True
    threading.Timer(1.2, lambda: setattr(rtsp, "stalled", False)).start()
    read_for(source, 3.0)
    source.close()
