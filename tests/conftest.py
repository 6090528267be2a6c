"""Fixtures several test folders share; also puts tests/ on the import path (rtsp_server, mjpeg_server, clips,
tiny_bundle)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mjpeg_server import MjpegServer
from rtsp_server import RtspServer
from tiny_bundle import write_bundle

from edgeclip.bundle import Bundle, open_bundle


@pytest.fixture
def rtsp() -> Iterator[RtspServer]:
    with RtspServer() as server:
        yield server


@pytest.fixture
def mjpeg() -> Iterator[MjpegServer]:
    with MjpegServer() as server:
        yield server


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle directory with real image and text engines, each as TFLite and as ONNX. Not to be changed."""
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Bundle:
    return open_bundle(tiny_path)
