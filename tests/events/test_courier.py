from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from edgeclip.events.courier import BATCH, Courier, delay_s
from edgeclip.events.delivery import Message, Rejected, Unreachable
from edgeclip.events.outbox import Outbox
from events.made import event, until


class Box:
    """A sink that can be away, and refuses what it is told to."""

    name = "box"

    def __init__(self) -> None:
        self.had: list[str] = []
        self.away = False
        self.refuses = ""
        self.opened = 0

    def open(self) -> None:
        if self.away:
            raise Unreachable("nobody there")
        self.opened += 1

    def deliver(self, messages: Sequence[Message], done: Callable[[Message], object]) -> None:
        for message in messages:
            if self.away:
                raise Unreachable("gone")
            if message.id == self.refuses:
                raise Rejected("not that one", message)
            self.had.append(message.id)
            done(message)

    def tend(self) -> None:
        if self.away:
            raise Unreachable("gone")

    def close(self) -> None:
        return


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "outbox.sqlite")
    yield opened
    opened.close()


def test_delivers_in_order_and_marks(outbox: Outbox) -> None:
    box = Box()
    outbox.add([event(str(number)) for number in range(100)], ["box"])
    courier = Courier(box, outbox, lambda text: None)
    courier.start()
    until(lambda: courier.delivered == 100)
    outbox.add([event("later")], ["box"])
    courier.wake()
    until(lambda: box.had[-1] == "later-started")
    courier.stop()
    courier.join(10)
    assert box.had == [f"{number}-started" for number in range(100)] + ["later-started"]
    assert outbox.depths() == {("box", "delivered"): 101}


def test_waits_while_the_sink_is_away_and_says_so_once(outbox: Outbox) -> None:
    box, told = Box(), []
    box.away = True
    outbox.add([event("x")], ["box"])
    courier = Courier(box, outbox, told.append)
    courier.start()
    until(lambda: courier.state == "away")
    box.away = False
    until(lambda: box.had == ["x-started"])
    courier.stop()
    courier.join(10)
    assert courier.reconnects == 1
    assert [text.partition(";")[0] for text in told] == ["box: nobody there", "box is back"]


def test_a_sink_that_opens_and_takes_nothing_is_away_and_said_once(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf(Box):
        def deliver(self, messages: Sequence[Message], done: Callable[[Message], object]) -> None:
            raise Unreachable("HTTP 503")

    monkeypatch.setattr("edgeclip.events.courier.FIRST_DELAY_S", 0.001)
    told: list[str] = []
    box = Deaf()
    outbox.add([event("x")], ["box"])
    courier = Courier(box, outbox, told.append)
    courier.start()
    until(lambda: box.opened > 5)
    assert (courier.state, courier.reconnects) == ("away", 0)
    courier.stop()
    courier.join(10)
    assert told == ["box: HTTP 503; events wait in the outbox, tried again"]


def test_a_sink_that_fails_now_and_then_is_not_left_alone_for_long(outbox: Outbox) -> None:
    class Shaky(Box):
        def deliver(self, messages: Sequence[Message], done: Callable[[Message], object]) -> None:
            super().deliver(messages[:20], done)
            if len(messages) > 20:
                raise Unreachable("HTTP 503")

    box = Shaky()
    outbox.add([event(str(number)) for number in range(200)], ["box"])
    told: list[str] = []
    courier = Courier(box, outbox, told.append)
    courier.start()
    until(lambda: courier.delivered == 200)
    assert courier._attempt <= 1
    until(lambda: len(told) == 2)
    courier.stop()
    courier.join(10)
    assert [text.partition(";")[0] for text in told] == ["box: HTTP 503", "box is back"]


def test_a_refused_message_is_dead_and_holds_up_nothing(outbox: Outbox) -> None:
    box = Box()
    box.refuses = "b-started"
    outbox.add([event("a"), event("b"), event("c")], ["box"])
    courier = Courier(box, outbox, lambda text: None)
    courier.start()
    until(lambda: box.had == ["a-started", "c-started"])
    courier.stop()
    courier.join(10)
    assert courier.dead == 1
    ((message, deliveries),) = outbox.listed(10, dead=True)
    assert (message.id, deliveries[0].error) == ("b-started", "not that one")


def test_a_disk_that_is_full_holds_up_no_delivery(tmp_path: Path) -> None:
    class Full(Outbox):
        full = True
        longest = 0

        def pending(self, sink: str, limit: int, after: int = 0) -> list[Message]:
            found = super().pending(sink, limit, after)
            self.longest = max(self.longest, len(found))
            return found

        def mark(self, *arguments: object) -> None:  # type: ignore[override]
            if self.full:
                raise sqlite3.OperationalError("database or disk is full")
            super().mark(*arguments)  # type: ignore[arg-type]

    box, outbox = Box(), Full(tmp_path / "outbox.sqlite")
    courier = Courier(box, outbox, lambda text: None)
    outbox.add([event(str(number)) for number in range(100)], ["box"])
    courier.start()
    until(lambda: len(box.had) == 100)
    outbox.full = False
    courier.wake()
    until(lambda: outbox.depths() == {("box", "delivered"): 100})
    courier.stop()
    courier.join(10)
    assert len(box.had) == 100
    assert outbox.longest <= BATCH  # not all that was delivered meanwhile, again and again
    outbox.close()


def test_stopping_ends_at_once_where_the_sink_is_away(outbox: Outbox) -> None:
    box = Box()
    box.away = True
    courier = Courier(box, outbox, lambda text: None)
    courier.start()
    courier.stop()
    courier.join(5)
    assert not courier._thread.is_alive()


def test_pauses_grow_to_a_minute_and_differ() -> None:
    assert all(0.18 < delay_s(0) < 0.32 for _ in range(50))
    assert all(45.0 <= delay_s(1000) <= 75.0 for _ in range(50))
    assert len({delay_s(3) for _ in range(50)}) > 10


def test_a_sink_that_breaks_in_a_way_of_its_own_is_tried_again_and_told_of(outbox: Outbox) -> None:
    class Broken(Box):
        def deliver(self, messages: Sequence[Message], done: Callable[[Message], object]) -> None:
            if not self.had:
                self.had.append("tried")
                raise RuntimeError("a bug in its library")
            super().deliver(messages, done)

    told: list[str] = []
    outbox.add([event("a")], ["box"])
    courier = Courier(Broken(), outbox, told.append)
    courier.start()
    until(lambda: courier.delivered == 1)
    courier.stop()
    courier.join(5)
    assert "a bug in its library" in told[0]
