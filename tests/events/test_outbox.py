from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeclip.errors import UNAVAILABLE, ConfigError
from edgeclip.events.event import STARTED
from edgeclip.events.outbox import FORGOTTEN, Outbox
from events.made import both, event

FUTURE_MS = 10**15


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "outbox.sqlite")
    yield opened
    opened.close()


def test_messages_come_in_order_numbered_once_per_sink(outbox: Outbox) -> None:
    outbox.add(both("x"), ["a", "b"])
    outbox.add([event("y")], ["a", "b"])
    messages = outbox.pending("a", 10)
    assert [message.event.data.sequence for message in messages] == [1, 2, 3]
    assert [message.id for message in messages] == ["x-started", "x-ended", "y-started"]
    outbox.mark("a", [1, 2], "delivered")
    assert [message.sequence for message in outbox.pending("a", 10)] == [3]
    assert len(outbox.pending("b", 2)) == 2
    assert outbox.depths() == {("a", "delivered"): 2, ("a", "pending"): 1, ("b", "pending"): 3}


def test_a_message_that_is_there_is_not_added_again(outbox: Outbox) -> None:
    outbox.add([event("x")], ["a"])
    outbox.add([event("x"), event("y")], ["a"])
    assert [message.sequence for message in outbox.pending("a", 10)] == [1, 2]


def test_every_commit_is_fsynced(outbox: Outbox) -> None:
    database = outbox._open
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_add_returned_for_survives_kill_9(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from events.made import event
from edgeclip.events.outbox import FORGOTTEN, Outbox
outbox = Outbox(Path({str(tmp_path / "outbox.sqlite")!r}))
for number in range(10**9):
    outbox.add([event(str(number))], ["a"])
    print(number, flush=True)
"""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), *sys.path])),
    }
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline() for _ in range(25)]
    process.send_signal(signal.SIGKILL)
    acknowledged += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    outbox = Outbox(tmp_path / "outbox.sqlite")
    kept = {message.id for message in outbox.pending("a", 10**6)}
    outbox.close()
    assert {f"{int(number)}-started" for number in acknowledged if number.endswith(b"\n")} <= kept


def test_a_damaged_file_is_put_aside_and_said(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    path.write_bytes(b"no database at all, and longer than a header of one hundred bytes" * 9)
    told: list[str] = []
    outbox = Outbox(path, notify=told.append)
    outbox.add([event("x")], ["a"])
    assert [message.id for message in outbox.pending("a", 5)] == ["x-started"]
    outbox.close()
    assert "is damaged" in told[0]
    (aside,) = tmp_path.glob("outbox.sqlite.damaged-*")
    assert aside.read_bytes().startswith(b"no database at all")


def test_a_file_that_is_damaged_while_it_is_used_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    told: list[str] = []
    outbox = Outbox(path, notify=told.append)
    outbox.add([event(str(number)) for number in range(300)], ["a"])
    outbox._open.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(path.stat().st_size - 4096))
    outbox._open.execute("PRAGMA shrink_memory")
    other = sqlite3.connect(path)  # a write by another connection makes the first drop its cache
    other.execute("PRAGMA user_version = 7")
    other.close()
    outbox.add([event("after")], ["a"])
    assert "after-started" in [message.id for message in outbox.pending("a", 10_000)]
    outbox.close()
    assert told


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot open the outbox"):
        Outbox(tmp_path / "missing" / "outbox.sqlite")


@pytest.mark.parametrize("there_already", [False, True])
def test_a_disk_that_is_full_at_the_start_may_be_tried_again(there_already: bool, tmp_path: Path) -> None:
    """Exit code 78 would keep systemd from it. In a process that may write nothing, as a full disk would not let it."""
    path = tmp_path / "outbox.sqlite"
    if there_already:
        Outbox(path).close()
    code = f"""
import resource
from pathlib import Path
from edgeclip.errors import EdgeclipError
from edgeclip.events.outbox import Outbox
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    Outbox(Path({str(path)!r}))
except EdgeclipError as error:
    print(error.exit_code, error.message)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(f"{UNAVAILABLE} cannot open the outbox {path}: disk ")


def test_full_is_an_error_and_what_was_there_stays(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", max_bytes=200_000)
    added = _fill(outbox)
    assert len(outbox.pending("a", 10_000)) == added
    outbox.mark("a", list(range(1, added + 1)), "delivered")  # marking needs no room
    outbox.close()


def test_too_old_is_dead_listed_and_can_be_retried(outbox: Outbox) -> None:
    outbox.add(both("x"), ["a", "b"])
    outbox.mark("b", [1, 2], "delivered")
    outbox.mark("a", [1], "pending", "HTTP 503")
    assert outbox.expire(0) == 0
    assert outbox.expire(FUTURE_MS) == 2
    assert outbox.pending("a", 10) == []
    (first, _) = outbox.listed(10, dead=True)
    assert [(one.sink, one.state, one.error) for one in first[1]] == [("a", "dead", "HTTP 503"), ("b", "delivered", "")]
    assert outbox.purge(FUTURE_MS) == 0  # dead ones are kept
    assert outbox.retry("x-ended") == 1
    assert outbox.retry() == 1
    assert [message.id for message in outbox.pending("a", 10)] == ["x-started", "x-ended"]
    assert outbox.expire(time.time_ns() // 1_000_000 - 60_000) == 0


def test_forgets_only_what_has_ended_and_was_delivered(outbox: Outbox) -> None:
    outbox.add([*both("done"), event("holding"), *both("pending")], ["a"])
    outbox.mark("a", [1, 2, 3], "delivered")
    assert outbox.purge(0) == 0
    assert outbox.purge(FUTURE_MS) == 2
    assert outbox.purge(FUTURE_MS) == 0
    assert [message.id for message, _ in outbox.listed(10)] == ["holding-started", "pending-started", "pending-ended"]
    assert [message.data.event for message in outbox.unended()] == ["holding"]
    assert outbox.unended()[0].type == STARTED


def _fill(outbox: Outbox) -> int:
    """Adds messages until the outbox is full. Returns how many it took."""
    added = 0
    with contextlib.suppress(sqlite3.OperationalError):
        while added < 10_000:
            outbox.add([event(str(added))], ["a"])
            added += 1
    assert added < 10_000, "it is never full"
    with pytest.raises(sqlite3.OperationalError, match="full"):
        outbox.add([event("one more")], ["a"])
    return added


def test_a_clock_set_back_makes_nothing_younger_than_now(tmp_path: Path) -> None:
    with contextlib.closing(Outbox(tmp_path / "outbox.sqlite")) as outbox:
        outbox.add([event("x")], ["a"])
        written_ms = outbox.pending("a", 1)[0].written_ms
        month_ms = 30 * 86_400_000
        outbox.clock_set(month_ms, written_ms + month_ms)
        assert outbox.pending("a", 1)[0].written_ms == written_ms + month_ms
        outbox.clock_set(-month_ms, written_ms + 1)
        assert outbox.pending("a", 1)[0].written_ms == written_ms + 1


def test_of_damaged_files_the_newest_two_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    for number in range(9):
        old = tmp_path / f"outbox.sqlite.damaged-2026010{number}T000000-1"
        old.touch()
        os.utime(old, (number, number))
    path.write_bytes(b"this is no database, and never was one" * 100)
    Outbox(path).close()
    left = sorted(tmp_path.glob("*.damaged-*"))
    assert len(left) <= 6
    assert any(file.stat().st_size for file in left)


def test_the_start_of_an_event_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    with contextlib.closing(Outbox(tmp_path / "outbox.sqlite", notify=told.append)) as outbox:
        outbox.add([event("x"), event("y")], ["a"])
        outbox._open.execute("UPDATE message SET body = 'x' WHERE sequence = 1")
        assert [one.data.event for one in outbox.unended()] == ["y"]
    assert told[0].startswith("row 1 of the outbox, x-started, is no message of this version")


def test_a_long_history_is_forgotten_a_little_at_a_time_the_oldest_first(outbox: Outbox, tmp_path: Path) -> None:
    """One transaction as long as the file would need as much room beside it, and hold up everybody meanwhile."""
    for begin in range(0, 3000, 500):
        outbox.add([message for number in range(begin, begin + 500) for message in both(f"{number:05d}")], ["a"])
    outbox.mark("a", range(1, 6001), "delivered")
    assert outbox.purge(FUTURE_MS) == FORGOTTEN
    assert outbox.listed(10_000)[0][0].sequence == FORGOTTEN + 1
    outbox._open.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    while outbox.purge(FUTURE_MS):
        pass
    assert outbox.listed(10) == []
    assert (tmp_path / "outbox.sqlite-wal").stat().st_size < 5_000_000


def test_no_room_for_a_new_file_after_damage_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(outbox: Outbox) -> sqlite3.Connection:
        raise sqlite3.OperationalError("database or disk is full")

    with contextlib.closing(Outbox(tmp_path / "outbox.sqlite")) as outbox:
        with monkeypatch.context() as patch:
            patch.setattr(Outbox, "_connected", full)
            outbox._give_up(sqlite3.DatabaseError("malformed"))
            with pytest.raises(sqlite3.OperationalError, match="full"):
                outbox.add([event("x")], ["a"])
            with pytest.raises(sqlite3.OperationalError, match="full"):
                outbox.depths()
        outbox.add([event("x")], ["a"])
        assert outbox.depths() == {("a", "pending"): 1}
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        outbox.depths()
