from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from edgeclip.errors import DataError, SourceError, UsageError
from edgeclip.runtime.sources import open_source
from edgeclip.runtime.sources.pictures import Pictures


def test_a_directory_is_read_in_natural_order_and_once(tmp_path: Path) -> None:
    for number in (10, 9, 1, 2):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"shot{number}.PNG")
    (tmp_path / "notes.txt").write_text("ignored")
    (tmp_path / "._shot1.PNG").write_text("what a Mac leaves beside the pictures it copies")
    (tmp_path / "folder.png").mkdir()
    for uri in (str(tmp_path), str(tmp_path / "shot*.PNG")):
        source = open_source(uri)
        source.open()
        seen = []
        while (pixels := source.read()) is not None:
            seen.append(int(pixels[0, 0, 2]))
        assert seen == [1, 2, 9, 10]
        assert source.read() is None


def test_a_picture_without_suffix_is_known_by_its_content(tmp_path: Path) -> None:
    Image.new("RGB", (60, 40), (200, 20, 20)).save(tmp_path / "photo.png")
    shutil.copy(tmp_path / "photo.png", tmp_path / "photo")
    assert isinstance(open_source(str(tmp_path / "photo")), Pictures)


def test_pictures_in_real_time_need_a_rate(tmp_path: Path) -> None:
    Image.new("RGB", (60, 40), (200, 20, 20)).save(tmp_path / "photo.png")
    with pytest.raises(UsageError, match="no rate of their own"):
        open_source(str(tmp_path), realtime=True)
    source = open_source(str(tmp_path), realtime=True, fps=4)
    assert (source.live, source.paced, source.fps) == (True, True, 4)


def test_in_a_folder_each_picture_is_named_and_a_bad_one_costs_only_itself(tmp_path: Path) -> None:
    for number in (1, 3):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.jpg").write_bytes(b"no picture")
    (tmp_path / "4.png").write_bytes(b"")
    for uri in (str(tmp_path), str(tmp_path / "*.*")):
        source = open_source(uri)
        assert isinstance(source, Pictures)
        source.open()
        for number in (1, 3):
            assert source.read() is not None
            assert source.picture == str(tmp_path / f"{number}.png")
        with pytest.raises(DataError, match=r"2 of 4 pictures could not be read.*2\.jpg.*4\.png"):
            source.read()


def test_a_bad_picture_that_was_named_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "2.jpg").write_bytes(b"no picture")
    source = open_source(str(tmp_path / "2.jpg"))
    source.open()
    with pytest.raises(DataError, match=r"^\S*2\.jpg is not a readable picture"):
        source.read()


def test_where_pictures_lie_deeper_it_is_said_how_to_name_them(tmp_path: Path) -> None:
    (tmp_path / "monday").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "monday" / "1.png")
    with pytest.raises(DataError, match="holds no pictures") as caught:
        open_source(str(tmp_path))
    pattern = caught.value.hint.split("'")[1]
    assert open_source(pattern).name == pattern
    with pytest.raises(SourceError, match="matches no file"):
        open_source(str(tmp_path / "*.tga"))


def test_a_pattern_of_films_is_told_how_films_are_named(tmp_path: Path) -> None:
    for number in (2, 1):
        (tmp_path / f"{number}.mp4").write_bytes(b"not read")
    with pytest.raises(SourceError, match="matches no picture") as caught:
        open_source(str(tmp_path / "*.mp4"))
    assert f"--source {tmp_path / '1.mp4'}" in caught.value.hint
