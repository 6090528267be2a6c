"""Hands frames from the thread that reads them to the thread that uses them."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Box(Generic[T]):
    """A bounded queue between two threads.

    newest_wins: a full box drops its oldest item for the new one, and counts it; otherwise put() waits for room.
    """

    def __init__(self, capacity: int, *, newest_wins: bool) -> None:
        self.discarded = 0
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._newest_wins = newest_wins
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Add an item; a closed box ignores it."""
        with self._changed:
            while len(self._items) >= self._capacity and not self._closed:
                if self._newest_wins:
                    self._items.popleft()
                    self.discarded += 1
                else:
                    self._changed.wait()
            if not self._closed:
                self._items.append(item)
                self._changed.notify_all()

    def get(self, timeout_s: float) -> T | None:
        """The oldest item, or None after timeout_s or when the box is exhausted."""
        with self._changed:
            if not self._items and not self._closed:
                self._changed.wait(timeout_s)
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Nothing more is put in; what is in it can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def exhausted(self) -> bool:
        """Closed and empty."""
        with self._changed:
            return self._closed and not self._items
