from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from edgeclip.errors import UNAVAILABLE, EdgeclipError
from edgeclip.runtime import room
from edgeclip.runtime.room import Waiting, lacks_room


def full_database(path: Path) -> sqlite3.Error:
    """What SQLite really says where there is no room."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA max_page_count = 2")
    connection.execute("CREATE TABLE t (content)")
    with pytest.raises(sqlite3.Error) as caught:
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    return caught.value


def test_a_full_disk_is_told_from_other_failures(tmp_path: Path) -> None:
    told = EdgeclipError("cannot open the outbox", "make room", UNAVAILABLE)
    assert not lacks_room(told)
    told.__cause__ = full_database(tmp_path / "x.sqlite")
    assert lacks_room(told)
    assert lacks_room(OSError(errno.ENOSPC, "No space left on device"))
    assert not lacks_room(PermissionError(errno.EACCES, "Permission denied"))


def test_each_wait_is_longer_until_a_run_lasted_and_is_spoken_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    said: list[str] = []
    waiting = Waiting(lambda *assignments: told.extend(assignments))
    monkeypatch.setattr(room, "LOOK_S", 0.0)

    def wait() -> str:
        told.clear()
        waiting.wait("no room", iter([False, True]).__next__, said.append)
        assert told[:2] == ["READY=1", "WATCHDOG=1"]
        return told[2]

    for seconds in (30, 60, 120, 240, 480, 600, 600):
        assert wait() == f"STATUS=degraded: no room; tried again after {seconds} s"
    assert said == ["waiting for room on the disk: no room"]
    monkeypatch.setattr(room, "LASTED_S", 0.0)
    assert wait() == "STATUS=degraded: no room; tried again after 30 s"
    assert len(said) == 2
