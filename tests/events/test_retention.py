"""Files really written and stamped, under a clock that these tests set."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeclip.events.retention import CLOCK, Retention

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S
NOW_S = 1_785_585_600.0  # 2026
SIZE = 1000


@dataclass
class Device:
    """With a folder, a wall clock, and a time since it was switched on."""

    folder: Path
    wall_s: float = NOW_S
    up_s: float = 0.0
    max_bytes: float = 1e9
    max_age_s: float = 30 * DAY_S

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.retention = Retention(self.folder, self.max_bytes, self.max_age_s, lambda: self.wall_s, lambda: self.up_s)
        self.retention.remove_oldest()

    def reboot(self, at_s: float) -> None:
        self.wall_s, self.up_s = at_s, 0.0
        self.start()

    def wait(self, seconds: float) -> None:
        """An hour at a time, as a run does."""
        while seconds > 0:
            step_s = min(seconds, 3600.0)
            self.wall_s, self.up_s, seconds = self.wall_s + step_s, self.up_s + step_s, seconds - step_s
            self.retention.remove_oldest()

    def write(self, name: str, *, set_by_s: float = 0.0) -> None:
        """As media.py writes. set_by_s: how far the clock is set while the file is written."""
        self.retention.look()
        path = self.folder / "day" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(SIZE))
        self.wall_s, self.up_s = self.wall_s + 1.0 + set_by_s, self.up_s + 1.0
        os.utime(path, (self.wall_s, self.wall_s))
        self.retention.remove_oldest()

    @property
    def kept(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*/*"))


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_the_oldest_go_beyond_age(device: Device) -> None:
    device.write("a.jpg")
    device.wait(20 * DAY_S)
    device.write("b.mp4")
    (device.folder / "day" / "notes.txt").write_text("not ours")
    device.wait(11 * DAY_S)
    assert device.kept == ["b.mp4", "notes.txt"]
    device.wait(20 * DAY_S)
    assert device.kept == ["notes.txt"]


def test_the_oldest_go_beyond_size_and_empty_folders_with_them(tmp_path: Path) -> None:
    device = Device(tmp_path, max_bytes=2.5 * SIZE)
    for name in ("a.jpg", "b.mp4", "c.jpg", "d.mp4"):
        device.write(name)
        device.wait(60)
    assert device.kept == ["c.jpg", "d.mp4"]
    device.wait(40 * DAY_S)
    assert os.listdir(tmp_path) == [CLOCK]


def test_a_clock_that_the_network_sets_from_1970_removes_nothing(tmp_path: Path) -> None:
    device = Device(tmp_path, wall_s=100.0)
    device.write("a.jpg")
    device.wait(3600)
    device.wall_s = NOW_S
    device.write("b.jpg")
    assert device.kept == ["a.jpg", "b.jpg"]
    assert NOW_S - 4000 < (tmp_path / "day" / "a.jpg").stat().st_mtime < NOW_S - 3000
    device.wait(29.9 * DAY_S)
    assert device.kept == ["a.jpg", "b.jpg"]
    device.wait(0.2 * DAY_S)
    assert device.kept == []


@pytest.mark.parametrize("by_s", [5 * YEAR_S, 20 * DAY_S])
def test_a_clock_years_ahead_and_back_neither_removes_nor_keeps_everything(device: Device, by_s: float) -> None:
    device.write("old.jpg")
    device.wait(25 * DAY_S)
    device.write("before.jpg")
    device.wall_s += by_s
    device.write("ahead.jpg")
    device.wait(DAY_S)
    assert device.kept == ["ahead.jpg", "before.jpg", "old.jpg"]
    device.wall_s -= by_s
    device.write("after.jpg")
    device.wait(3 * DAY_S)
    assert device.kept == ["after.jpg", "ahead.jpg", "before.jpg", "old.jpg"]
    device.wait(1.5 * DAY_S)
    assert device.kept == ["after.jpg", "ahead.jpg", "before.jpg"]
    device.wait(25 * DAY_S)
    assert device.kept == ["after.jpg"]
    device.wait(DAY_S)
    assert device.kept == []


@pytest.mark.parametrize("by_s", [5 * YEAR_S, -5 * YEAR_S])
def test_a_clock_set_while_a_file_is_written(device: Device, by_s: float) -> None:
    device.write("a.jpg")
    device.wait(DAY_S)
    device.write("b.jpg", set_by_s=by_s)
    assert device.kept == ["a.jpg", "b.jpg"]
    device.wait(29.5 * DAY_S)
    assert device.kept == ["b.jpg"]
    device.wait(DAY_S)
    assert device.kept == []


def test_a_board_that_always_starts_in_1970_removes_the_oldest_not_the_newest(tmp_path: Path) -> None:
    device = Device(tmp_path, wall_s=100.0, max_bytes=3.5 * SIZE)
    for number in range(6):
        device.write(f"{number}.jpg")
        device.wait((6 - number) * DAY_S)  # each run shorter than the one before
        device.reboot(at_s=100.0)
    assert device.kept == ["3.jpg", "4.jpg", "5.jpg"]
    device.wait(25 * DAY_S)
    assert device.kept == ["4.jpg", "5.jpg"]  # 3.jpg is of 6 days of running before that


def test_a_start_in_1970_then_the_network_leaves_ages_as_they_were(device: Device) -> None:
    device.write("a.jpg")
    device.wait(20 * DAY_S)
    device.write("b.jpg")
    device.reboot(at_s=50.0)
    device.write("c.jpg")
    device.wait(600)
    device.wall_s = NOW_S + 21 * DAY_S
    device.wait(9 * DAY_S)
    assert device.kept == ["a.jpg", "b.jpg", "c.jpg"]
    device.wait(2 * DAY_S)
    assert device.kept == ["b.jpg", "c.jpg"]


def test_a_start_years_ahead_is_believed_for_a_quarter_of_the_age(device: Device) -> None:
    device.write("a.jpg")
    device.wait(20 * DAY_S)
    device.write("b.jpg")
    device.reboot(at_s=NOW_S + 30 * YEAR_S)
    assert device.kept == ["a.jpg", "b.jpg"]
    device.wait(3 * DAY_S)  # 20 + 7.5 + 3 days
    assert device.kept == ["b.jpg"]
    device.wait(20 * DAY_S)
    assert device.kept == []


def test_time_switched_off_counts_and_restarts_make_nothing_younger(device: Device) -> None:
    device.write("a.jpg")
    for _ in range(31):
        device.wait(0.5 * DAY_S)
        device.reboot(at_s=device.wall_s + 0.5 * DAY_S)
    assert device.kept == []


def test_pictures_of_a_version_that_left_no_stamp(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.write("a.jpg")
    (tmp_path / CLOCK).unlink()
    device.reboot(at_s=NOW_S + 9 * YEAR_S)
    assert device.kept == ["a.jpg"]


def test_what_a_writer_left_half_written_goes_after_an_hour(device: Device) -> None:
    device.write("a.jpg")
    device.write(".b.mp4.part.mp4")
    device.wait(3600)
    assert device.kept == [".b.mp4.part.mp4", "a.jpg"]
    device.wait(3600)
    assert device.kept == ["a.jpg"]
