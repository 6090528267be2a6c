"""Fixtures several test folders share; also puts tests/ on the import path (rtsp_server, mjpeg_server, clips)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mjpeg_server import MjpegServer
from rtsp_server import RtspServer


@pytest.fixture
def rtsp() -> Iterator[RtspServer]:
    with RtspServer() as server:
        yield server


@pytest.fixture
def mjpeg() -> Iterator[MjpegServer]:
    with MjpegServer() as server:
        yield server
