from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeclip.events.outbox import Outbox
from edgeclip.events.writer import Writer
from events.made import both, event, until


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "outbox.sqlite", max_bytes=120_000)
    yield opened
    opened.close()


def writer(outbox: Outbox, told: list[str], **options: float) -> Writer:
    return Writer(outbox, ["a"], lambda: None, told.append, give_up_s=1000.0, retry_s=0.02, **options)  # type: ignore[arg-type]


def test_what_was_put_is_acknowledged_and_on_disk(outbox: Outbox) -> None:
    woken = threading.Event()
    wrote = Writer(outbox, ["a"], woken.set, lambda text: None, give_up_s=1000.0)
    wrote.start()
    for message in both("x"):
        wrote.put(message)
    assert woken.wait(20)
    until(lambda: wrote.acknowledged == 2)
    wrote.stop(10)
    assert [message.id for message in outbox.pending("a", 10)] == ["x-started", "x-ended"]


def test_stopping_commits_what_waits(outbox: Outbox) -> None:
    wrote = writer(outbox, [])
    wrote.put(event("x"))
    wrote.start()
    wrote.stop(10)
    assert wrote.acknowledged == 1


def test_a_full_disk_keeps_the_oldest_counts_the_rest_and_recovers(outbox: Outbox) -> None:
    told: list[str] = []
    wrote = writer(outbox, told, waiting=20)
    wrote.start()
    number = 0
    while not wrote.failures:
        wrote.put(event(str(number)))
        number += 1
        until(lambda: not wrote.waiting or wrote.failures)
    for more in range(100):
        wrote.put(event(f"{number + more}"))
    assert wrote.refused >= 79
    assert wrote.waiting == 20
    kept = outbox.pending("a", 1000)
    assert [message.sequence for message in kept] == list(range(1, len(kept) + 1))
    assert kept[0].id == "0-started"  # nothing undelivered made room
    assert any("cannot be put on disk" in text for text in told)
    outbox.max_pages = 100_000  # there is room again
    until(lambda: not wrote.waiting)
    until(lambda: any("on disk again" in text for text in told))
    wrote.stop(10)
    assert len(outbox.pending("a", 1000)) == wrote.acknowledged


def test_the_caller_never_waits_while_the_disk_hangs(outbox: Outbox) -> None:
    wrote = writer(outbox, [], waiting=50)
    wrote.start()
    with outbox._lock:  # what a commit that hangs holds
        for number in range(200):
            wrote.put(event(str(number)))
        assert wrote.refused == 150
    wrote.stop(10)
    assert wrote.acknowledged == 50


def test_room_is_made_by_forgetting_what_was_delivered(outbox: Outbox) -> None:
    wrote = writer(outbox, [])
    wrote.start()
    for number in range(150):
        for message in both(str(number)):
            wrote.put(message)
        outbox.mark("a", [message.sequence for message in outbox.pending("a", 1000)], "delivered")
    while wrote.waiting:
        outbox.mark("a", [message.sequence for message in outbox.pending("a", 1000)], "delivered")
        time.sleep(0.01)  # without it, the writer would hardly ever have the lock
    wrote.stop(10)
    assert wrote.failures > 0
    assert wrote.refused == 0
    assert wrote.acknowledged == 300


def test_a_lock_is_no_full_disk_and_nothing_is_forgotten_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeclip.events.outbox.BUSY_S", 0.01)
    with contextlib.closing(Outbox(tmp_path / "outbox.sqlite")) as outbox:
        outbox.add([*both("delivered"), *both("dead")], ["a"])
        outbox.mark("a", [1, 2], "delivered")
        outbox.mark("a", [3, 4], "dead")
        told: list[str] = []
        wrote = writer(outbox, told)
        with contextlib.closing(sqlite3.connect(tmp_path / "outbox.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            wrote.start()
            wrote.put(event("x"))
            until(lambda: wrote.failures)
            other.execute("ROLLBACK")
            until(lambda: wrote.acknowledged == 1)
        wrote.stop(10)
        assert len(outbox.listed(10)) == 5
        assert "locked" in told[0]


def test_what_cannot_be_written_at_all_is_refused_and_holds_up_nothing(outbox: Outbox) -> None:
    told: list[str] = []
    wrote = writer(outbox, told)
    for name in ("a", "\udcff", "b"):
        wrote.put(event(name))
    wrote.start()
    until(lambda: wrote.acknowledged == 2)
    wrote.stop(10)
    assert wrote.refused == 1
    assert [message.id for message in outbox.pending("a", 10)] == ["a-started", "b-started"]
    assert "cannot be written, and is lost" in told[0]


def test_a_clock_that_the_network_sets_gives_up_nothing(outbox: Outbox) -> None:
    ahead_ns = 0
    wrote = Writer(
        outbox, ["a"], lambda: None, print, give_up_s=86_400.0, tidy_s=0.05, wall_ns=lambda: time.time_ns() + ahead_ns
    )
    wrote.start()
    wrote.put(event("x"))
    until(lambda: wrote.acknowledged == 1)
    ahead_ns = 40 * 86_400 * 10**9
    time.sleep(0.3)
    assert [message.id for message in outbox.pending("a", 10)] == ["x-started"]
    wrote.stop(10)


def test_what_waited_while_the_device_was_off_is_tried_before_it_is_given_up(outbox: Outbox) -> None:
    outbox.add([event("old")], ["a"])
    wrote = Writer(outbox, ["a"], lambda: None, print, give_up_s=1e-3)
    time.sleep(0.01)
    wrote.start()
    wrote.put(event("new"))
    until(lambda: wrote.acknowledged == 1)
    time.sleep(0.1)
    assert len(outbox.pending("a", 10)) == 2
    wrote.stop(10)
