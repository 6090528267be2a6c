"""Fixtures several test folders share; also puts tests/ on the import path (rtsp_server, mjpeg_server, clips,
tiny_bundle)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from clips import write_clip
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


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("EDGECLIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EDGECLIP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("dog\ncat\nred cup\n")
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", frames=25)
