from __future__ import annotations

from pathlib import Path

import pytest
from clips import index_of, write_clip

from edgeclip.errors import DataError
from edgeclip.runtime.sources.video import VideoFile


def indices(path: Path) -> list[int]:
    source = VideoFile(str(path))
    source.open()
    found = []
    while (pixels := source.read()) is not None:
        found.append(index_of(pixels))
    source.close()
    return found


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip", "a:b %03d é.mp4"])
def test_every_frame_once_in_order(name: str, tmp_path: Path) -> None:
    written = write_clip(tmp_path / (name if "." in name else f"{name}.mp4"))
    path = written.rename(tmp_path / name)
    assert indices(path) == list(range(30))


def test_a_second_open_starts_over(tmp_path: Path) -> None:
    source = VideoFile(str(write_clip(tmp_path / "clip.mp4")))
    for _ in range(2):
        source.open()
        assert source.fps == 30
        first = source.read()
        assert first is not None
        assert index_of(first) == 0
        source.close()


def test_a_truncated_file_is_damage_not_an_early_end(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", 300)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"clip\.mkv is damaged: it breaks off after \d+ of 300 frames"):
        indices(path)


@pytest.mark.parametrize("content", [b"", b"text, not a video\n" * 100, bytes(range(256)) * 64])
def test_what_is_no_video_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"clip\.mp4 is not a readable video"):
        indices(path)
