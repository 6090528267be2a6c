"""One message of an event: a CloudEvents 1.0 JSON object. docs/event.schema.json is made from these structs.

An event is one stretch of time in which a watch held; it has a message when it started and one when it ended.
"""

from __future__ import annotations

import os
import time
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

STARTED = "io.edgeclip.watch.started"
ENDED = "io.edgeclip.watch.ended"
INTERRUPTED = "interrupted"  # the reason where edgeclip itself was cut off

Kind = Literal["io.edgeclip.watch.started", "io.edgeclip.watch.ended"]
Time = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", description="RFC 3339, UTC")]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]


class BundleRef(msgspec.Struct, frozen=True):
    """The bundle that decided. digest: SHA-256 of its manifest.json."""

    name: str
    digest: str


class EventData(msgspec.Struct, frozen=True, kw_only=True):
    """event: the id that the started and the ended message share. camera: the source, credentials removed.

    started: capture of the first frame that counted towards it. ended: null while it holds; where `reason` is
    "interrupted", when that was found. probability: on the frame of this message; peak: the highest so far; enter: the
    threshold. reason: why it ended, "" where it started. frame, age_ms: the frame of this message, and its age when it
    was decided. space: the embedding space id. snapshot, clip: paths on the device, null where there is none; a clip is
    there some seconds after the event has ended. sequence: counts up within one outbox.
    """

    event: str
    watch: str
    camera: str
    started: Time
    ended: Time | None
    probability: Probability
    peak: Probability
    enter: Probability
    reason: str
    frame: Annotated[int, Meta(ge=0)]
    age_ms: Annotated[float, Meta(ge=0.0)]
    bundle: BundleRef
    space: str
    snapshot: str | None
    clip: str | None
    sequence: Annotated[int, Meta(ge=0)] = 0


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """CloudEvents attributes. id: of this message, the same however often it is delivered. source: device and camera.
    subject: the watch. time: capture of the frame on which it was decided."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: Kind
    subject: str
    time: Time
    datacontenttype: Literal["application/json"] = "application/json"
    data: EventData


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Event).decode


def message_id(event: str, kind: str) -> str:
    """Of the one message of that kind that an event has."""
    return f"{event}-{kind.rpartition('.')[2]}"


def new_id() -> str:
    """A UUID version 7 (RFC 9562): ordered by its millisecond, unique across restarts and devices."""
    value = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def event_schema() -> dict[str, Any]:
    """JSON Schema of a message."""
    schema: dict[str, Any] = msgspec.json.schema(Event)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "edgeclip event message", **schema}
