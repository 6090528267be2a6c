"""A run without metrics: what Meter wraps, as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from edgeclip.types import Sink

T = TypeVar("T")


class Unmetered:
    def begin(self, *run: object) -> None:
        return

    def engine(self, engine: T) -> T:
        return engine

    def preprocessing(self, make: T) -> T:
        return make

    def deciding(self, fresh_bank: Callable[[], T]) -> Callable[[], T]:
        return fresh_bank

    def around(self, sinks: Sequence[Sink]) -> Sequence[Sink]:
        return sinks
