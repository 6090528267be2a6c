from __future__ import annotations

from pathlib import Path

import pytest
from clips import write_clip

from edgeclip.errors import BAD_DATA, UNAVAILABLE, USAGE, EdgeclipError
from edgeclip.runtime.sources import SOURCES, open_source
from edgeclip.runtime.sources.camera import Camera
from edgeclip.runtime.sources.demo import Demo
from edgeclip.runtime.sources.network import NetworkStream
from edgeclip.runtime.sources.pictures import Pictures
from edgeclip.runtime.sources.video import VideoFile


@pytest.mark.parametrize(
    ("uri", "kind", "live"),
    [
        ("0", Camera, True),
        ("camera:1", Camera, True),
        ("/dev/video0", Camera, True),
        ("rtsp://host/live", NetworkStream, True),
        ("RTSPS://host/live", NetworkStream, True),
        ("https://host/mjpeg", NetworkStream, True),
        ("demo", Demo, True),
        ("clip.mp4", VideoFile, False),
        ("a:b%d.mp4", VideoFile, False),
        ("photo.png", Pictures, False),
        (".", Pictures, False),
        ("*.png", Pictures, False),
    ],
)
def test_uris(uri: str, kind: type, live: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("clip.mp4", "a:b%d.mp4", "photo.png"):
        Path(name).write_bytes(b"not opened by constructing")
    source = open_source(uri, fps=5)
    assert type(source) is kind
    assert source.live is live
    assert source.name == uri or kind is Camera
    assert kind is Pictures or source.max_fps == 5


@pytest.mark.parametrize(
    ("uri", "message", "hint", "code"),
    [
        (
            "ftp://user:secret@host/x",
            r"ftp://\*\*\*@host/x: no source has the scheme ftp://",
            "rtsp://HOST",
            UNAVAILABLE,
        ),
        ("nowhere.mp4", "nowhere.mp4: no such file", "'shots/", UNAVAILABLE),
        ("shots/*.jpg", "matches no file", "check the pattern", UNAVAILABLE),
        ("", "empty", "demo", UNAVAILABLE),
        ("/proc/self/fd/0/x", "no such file", "demo", UNAVAILABLE),
        ("/dev/null", "not a video device", "ls /dev/video", UNAVAILABLE),
        ("rtsp:///live", "host is missing", "rtsp://HOST", UNAVAILABLE),
        ("empty", "holds no pictures", ".jpg", BAD_DATA),
    ],
)
def test_refusals(
    uri: str, message: str, hint: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    with pytest.raises(EdgeclipError, match=message) as caught:
        open_source(uri).open()
    assert hint in caught.value.hint
    assert caught.value.exit_code == code
    assert "secret" not in caught.value.message + caught.value.hint


def test_a_rate_must_be_positive() -> None:
    with pytest.raises(EdgeclipError) as caught:
        open_source("demo", fps=0)
    assert caught.value.exit_code == USAGE


def test_realtime_makes_a_file_live(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 3)
    source = open_source(str(clip), realtime=True)
    assert (source.live, source.paced) == (True, True)


def test_every_entry_of_the_table_resolves() -> None:
    from edgeclip.registry import resolve

    assert all(callable(resolve(target)) for target in SOURCES.values())
