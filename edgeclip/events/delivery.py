"""What a courier carries, and what it carries it with. A delivery has no thread, no retry and no clock of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from edgeclip.errors import EdgeclipError
from edgeclip.events.event import Event, decode


class Message(NamedTuple):
    """A row of the outbox. body: the Event as UTF-8 JSON."""

    sequence: int
    id: str
    body: bytes
    written_ms: int  # wall clock

    @property
    def event(self) -> Event:
        """Raises Rejected for one that this version cannot read."""
        try:
            return decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Rejected(
                f"row {self.sequence} of the outbox, {self.id}, is no message of this version: {error}", self
            ) from error


class Unreachable(EdgeclipError):
    """The other side is not there or not well: try again later, everything in its order."""


class Rejected(EdgeclipError):
    """The other side will never take this message: put it aside and go on."""

    def __init__(self, reason: str, message: Message) -> None:
        super().__init__(reason)
        self.rejected = message


class Delivery(Protocol):
    """One sink of events. Everything is called on its courier's thread.

    name: says which sink it is, in the outbox, metrics and lists; nothing secret in it, the same at every start.
    open() connects. deliver() hands messages over in order and calls done(message) once the other side has each.
    tend() is called about once a second while there is nothing to deliver. All three raise Unreachable.
    """

    name: str

    def open(self) -> None: ...
    def deliver(self, messages: Sequence[Message], done: Callable[[Message], object]) -> None: ...
    def tend(self) -> None: ...
    def close(self) -> None: ...
