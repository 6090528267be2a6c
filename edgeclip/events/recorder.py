"""The sink that turns what begins and ends on a frame into event messages. It never waits: see writer.py, media.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

import msgspec

from edgeclip.events.event import ENDED, INTERRUPTED, STARTED, BundleRef, Event, EventData, message_id, new_id
from edgeclip.runtime.sinks.jsonl import utc
from edgeclip.types import Change, Decision, Frame


@dataclass(frozen=True, slots=True)
class Origin:
    """Who reports. device: a name for this machine. space: the embedding space id."""

    device: str
    bundle: BundleRef
    space: str


class Pictures(Protocol):
    """Where frames become snapshots and clips. begin() says where an event's will be, None where there will be none;
    no call waits."""

    def frame(self, frame: Frame) -> None: ...
    def begin(self, event: str, frame: Frame) -> tuple[str | None, str | None]: ...
    def end(self, event: str, frame: Frame) -> None: ...


class NoPictures:
    def frame(self, frame: Frame) -> None:
        return

    def begin(self, event: str, frame: Frame) -> tuple[str | None, str | None]:
        return None, None

    def end(self, event: str, frame: Frame) -> None:
        return


class Recorder:
    """put: takes each message. watches: the names in force, for sinks that announce them."""

    def __init__(self, put: Callable[[Event], None], origin: Origin, pictures: Pictures) -> None:
        self.watches: tuple[str, ...] = ()
        self.events = 0
        self._put, self._origin, self._pictures = put, origin, pictures
        self._holding: dict[tuple[str, str], EventData] = {}  # camera, watch
        self._states: dict[str, tuple[str, ...]] = {}  # camera -> watches

    def holding(self) -> list[tuple[str, str]]:
        """(watch, event) of what holds now; asked from any thread."""
        return [(watch, data.event) for (_, watch), data in list(self._holding.items())]

    def open(self) -> None:
        return

    def write(self, decision: Decision, frame: Frame) -> None:
        if not decision.closing:
            self._pictures.frame(frame)
        names = tuple([watch.name for watch in decision.watches])
        if names != self._states.get(decision.source, ()):
            self._note_watches(decision.source, names)
        for change in decision.changes:
            (self._begin if change.on else self._end)(change, decision, frame)

    def close(self) -> None:
        return

    def _begin(self, change: Change, decision: Decision, frame: Frame) -> None:
        event = new_id()
        snapshot, clip = self._pictures.begin(event, frame)
        data = EventData(
            event=event,
            watch=change.watch,
            camera=decision.source,
            started=utc(change.began_wall_ns),
            ended=None,
            probability=_share(change.probability),
            peak=_share(change.peak),
            enter=_share(change.enter),
            reason="",
            frame=decision.frame_index,
            age_ms=round(decision.age_ns / 1e6, 3),
            bundle=self._origin.bundle,
            space=self._origin.space,
            snapshot=snapshot,
            clip=clip,
        )
        self._holding[decision.source, change.watch] = data
        self.events += 1
        self._put(message(STARTED, self._origin.device, data, utc(decision.wall_ns)))

    def _end(self, change: Change, decision: Decision, frame: Frame) -> None:
        begun = self._holding.pop((decision.source, change.watch))
        self._pictures.end(begun.event, frame)
        now = utc(decision.wall_ns)
        data = msgspec.structs.replace(
            begun,
            ended=now,
            probability=_share(change.probability),
            peak=_share(change.peak),
            reason=change.reason,
            frame=decision.frame_index,
            age_ms=round(decision.age_ns / 1e6, 3),
        )
        self._put(message(ENDED, self._origin.device, data, now))

    def _note_watches(self, source: str, names: tuple[str, ...]) -> None:
        self._states[source] = names
        self.watches = tuple(dict.fromkeys(name for names in self._states.values() for name in names))


def message(kind: str, device: str, data: EventData, time: str) -> Event:
    """The message of that kind about an event."""
    source = f"/edgeclip/{quote(device, safe='')}/{quote(data.camera, safe='')}"
    return Event(
        id=message_id(data.event, kind),
        source=source,
        type=kind,  # type: ignore[arg-type]
        subject=data.watch,
        time=time,
        data=data,
    )


def interrupted(event: Event, wall_ns: int) -> Event:
    """The end of an event that edgeclip was cut off in; found at wall_ns."""
    now = utc(wall_ns)
    data = msgspec.structs.replace(event.data, ended=now, reason=INTERRUPTED)
    return msgspec.structs.replace(event, id=message_id(data.event, ENDED), type=ENDED, time=now, data=data)


def _share(value: float) -> float:
    return round(min(max(value, 0.0), 1.0), 6)
