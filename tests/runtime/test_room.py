from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from edgeclip.errors import UNAVAILABLE, EdgeclipError
from edgeclip.runtime import room
from edgeclip.runtime.room import lacks_room, wait_for_room


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


def test_each_wait_is_longer_and_a_stop_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def tell(*assignments: str) -> None:
        said.extend(assignments)

    monkeypatch.setattr(room, "LOOK_S", 0.0)
    for waits, seconds in ((0, 30), (1, 60), (9, 600)):
        answers = iter([False, True])
        wait_for_room("no room", waits, answers.__next__, tell)
        assert said == ["READY=1", "WATCHDOG=1", f"STATUS=degraded: no room; tried again after {seconds} s"]
        said.clear()
