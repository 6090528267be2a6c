"""Events, messages and decisions for these tests."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from edgeclip.events.deliveries import Setting
from edgeclip.events.delivery import Message
from edgeclip.events.event import ENDED, STARTED, BundleRef, Event, EventData, encode
from edgeclip.events.recorder import Origin, message
from edgeclip.types import Change, Decision, Frame, WatchState

ORIGIN = Origin("board", BundleRef("tiny", "sha256:" + "4" * 64), "sha256:" + "1" * 64)
WALL_NS = 1_785_585_600_123_456_789


def event(name: str = "a", kind: str = STARTED, watch: str = "door open") -> Event:
    now = "2026-08-01T12:00:00.123Z"
    data = EventData(
        event=name,
        watch=watch,
        camera="demo",
        started=now,
        ended=now if kind == ENDED else None,
        probability=0.9,
        peak=0.9,
        enter=0.8,
        reason="left" if kind == ENDED else "",
        frame=1,
        age_ms=12.0,
        bundle=ORIGIN.bundle,
        space=ORIGIN.space,
        snapshot=None,
        clip=None,
    )
    return message(kind, ORIGIN.device, data, now)


def both(name: str) -> list[Event]:
    return [event(name), event(name, ENDED)]


def row(sequence: int, of: Event | None = None) -> Message:
    of = of or event(str(sequence))
    return Message(sequence, of.id, encode(of), 0)


def frame(index: int = 0, captured_ns: int = 1_000_000_000, source: str = "demo") -> Frame:
    return Frame(np.full((48, 64, 3), index % 256, np.uint8), index, captured_ns, WALL_NS + captured_ns, source)


def decision(of: Frame, *changes: Change, on: bool = False, closing: bool = False) -> Decision:
    watches = (WatchState("door open", 0.9 if on else 0.1, 0.8, on),)
    scores = np.zeros(0, np.float32)
    return Decision(
        of.index, of.source, of.captured_ns, of.wall_ns, 41_000_000, (), scores, (), 3, 19.8, watches, changes,
        closing=closing,
    )  # fmt: skip


def change(on: bool, of: Frame, watch: str = "door open", reason: str = "left") -> Change:
    return Change(watch, on, of.captured_ns, of.wall_ns, 0.9, 0.95, 0.8, "" if on else reason)


def setting(
    watches: tuple[str, ...] = ("door open",), holding: list[tuple[str, str]] | None = None, **secrets: str
) -> Setting:
    return Setting("board", "edgeclip-board-1", lambda: watches, lambda: holding or [], secrets.get)


def until(true: Callable[[], object], within_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.01)
