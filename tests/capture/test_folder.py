from __future__ import annotations

import resource
from pathlib import Path

import pytest

from edgeclip.capture.folder import HISTORY, INDEX, CaptureFolder, Counts, Row, Tick
from edgeclip.errors import ConfigError, DataError


def row(file: str, replaces: str | None = None) -> Row:
    return Row(file, "2026-01-01T00:00:00.000Z", "rtsp://***@camera/1", 7, 1.5, 99.0, 0.25, replaces)


def filled(directory: Path, count: int) -> Path:
    with CaptureFolder(directory) as folder:
        for _ in range(count):
            folder.add(row(folder.next_file()), b"picture")
    return directory


def pictures(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "frames").iterdir())


def test_frames_come_back_in_the_order_they_were_kept(tmp_path: Path) -> None:
    filled(tmp_path / "set", 3)
    with CaptureFolder(tmp_path / "set") as folder:
        assert list(folder.rows) == ["000001.png", "000002.png", "000003.png"]
        assert folder.rows["000002.png"] == row("000002.png")
        assert folder.next_file() == "000004.png"


def test_a_frame_takes_the_place_of_another(tmp_path: Path) -> None:
    with CaptureFolder(filled(tmp_path / "set", 2)) as folder:
        folder.add(row(folder.next_file(), replaces="000001.png"), b"newer")
        assert list(folder.rows) == ["000002.png", "000003.png"]
    assert pictures(tmp_path / "set") == ["000002.png", "000003.png"]
    with CaptureFolder(tmp_path / "set") as folder:
        assert list(folder.rows) == ["000002.png", "000003.png"]


# What a kill leaves behind, step by step.


def test_half_a_line_is_cut_off(tmp_path: Path) -> None:
    directory = filled(tmp_path / "set", 2)
    with (directory / INDEX).open("ab") as stream:
        stream.write(b'{"file":"000003.png","ti')
    with CaptureFolder(directory) as folder:
        assert list(folder.rows) == ["000001.png", "000002.png"]
        folder.add(row(folder.next_file()), b"picture")
    with CaptureFolder(directory) as folder:
        assert len(folder.rows) == 3


def test_a_line_without_its_picture_keeps_what_it_was_to_replace(tmp_path: Path) -> None:
    import msgspec

    directory = filled(tmp_path / "set", 2)
    with (directory / INDEX).open("ab") as stream:
        stream.write(msgspec.json.encode(row("000003.png", replaces="000001.png")) + b"\n")
    (directory / "frames" / ".000003.png.x7.part").write_bytes(b"hal")
    with CaptureFolder(directory) as folder:
        assert list(folder.rows) == ["000001.png", "000002.png"]
        assert folder.next_file() == "000004.png"
    assert pictures(directory) == ["000001.png", "000002.png"]


def test_a_replaced_picture_that_is_still_there_is_removed(tmp_path: Path) -> None:
    directory = filled(tmp_path / "set", 1)
    with CaptureFolder(directory) as folder:
        folder.add(row(folder.next_file(), replaces="000001.png"), b"newer")
    (directory / "frames" / "000001.png").write_bytes(b"killed before it was removed")
    with CaptureFolder(directory) as folder:
        assert list(folder.rows) == ["000002.png"]
    assert pictures(directory) == ["000002.png"]


def test_a_picture_that_a_person_removed_is_forgotten_and_one_that_is_not_ours_is_left(tmp_path: Path) -> None:
    directory = filled(tmp_path / "set", 3)
    (directory / "frames" / "000002.png").unlink()
    (directory / "frames" / "mine.jpg").write_bytes(b"own picture")
    with CaptureFolder(directory) as folder:
        assert list(folder.rows) == ["000001.png", "000003.png"]
    assert "mine.jpg" in pictures(directory)


def test_the_history_comes_back_without_half_a_line(tmp_path: Path) -> None:
    with CaptureFolder(tmp_path / "set") as folder:
        folder.note(Tick(1.0, 3, Counts(seen=9, near=6), 0.1, 0.2, 0.05))
    with (tmp_path / "set" / HISTORY).open("ab") as stream:
        stream.write(b'{"seconds":2')
    with CaptureFolder(tmp_path / "set") as folder:
        assert folder.history == [Tick(1.0, 3, Counts(seen=9, near=6), 0.1, 0.2, 0.05)]


# Mistakes.


def test_a_folder_of_something_else_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="not empty"), CaptureFolder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_two_captures_do_not_share_a_folder(tmp_path: Path) -> None:
    directory = filled(tmp_path / "set", 1)
    with CaptureFolder(directory), pytest.raises(ConfigError, match="another edgeclip"), CaptureFolder(directory):
        pass
    with CaptureFolder(directory) as folder:
        assert len(folder.rows) == 1


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    directory = filled(tmp_path / "set", 2)
    lines = (directory / INDEX).read_bytes().splitlines(keepends=True)
    (directory / INDEX).write_bytes(lines[0] + b"not json\n" + lines[1])
    with pytest.raises(DataError, match=r"index\.jsonl:2"), CaptureFolder(directory):
        pass


@pytest.mark.parametrize("file", ["../../etc/passwd", "/etc/passwd", "1.png", "frames/000001.png"])
def test_a_line_names_only_pictures_of_the_set(tmp_path: Path, file: str) -> None:
    directory = filled(tmp_path / "set", 1)
    line = (directory / INDEX).read_text().replace('"replaces":null', f'"replaces":"{file}"')
    (directory / INDEX).write_text(line)
    with pytest.raises(DataError, match=r"index\.jsonl:1"), CaptureFolder(directory):
        pass


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"), CaptureFolder(tmp_path / "file" / "set"):
        pass


def test_a_full_disk_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    directory = filled(tmp_path / "set", 2)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with CaptureFolder(directory) as folder:
        newer = row(folder.next_file(), replaces="000001.png")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            with pytest.raises(ConfigError, match="cannot write") as raised:
                folder.add(newer, bytes(1_000_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "nothing captured so far is lost" in raised.value.hint
    size = (directory / INDEX).stat().st_size

    def add_with_no_room_for_its_line() -> None:
        with CaptureFolder(directory) as folder:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
            folder.add(newer, b"picture")

    try:
        with pytest.raises(ConfigError, match="cannot write"):
            add_with_no_room_for_its_line()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert pictures(directory) == ["000001.png", "000002.png"]
    with CaptureFolder(directory) as folder:
        assert list(folder.rows) == ["000001.png", "000002.png"]
