"""Reads and preprocesses one frame ahead of the engine, on a thread per source: the engine waits for neither.

Each source has three preprocessors: one being filled, one waiting, one at the engine. A live source replaces the frame
that waits (newest wins, the loss is counted); a finite one waits for its turn, and loses nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgeclip.types import Frame, Pixels, Source

Batch = npt.NDArray[np.uint8]  # [1, H, W, 3] RGB
Preprocess = Callable[[Pixels], Batch]  # returns its own buffer

LOOK_UP_S = 0.2  # how soon a stop asked for by a signal handler is seen; a handler may not take locks


class Feed(Protocol):
    """A supervised source."""

    source: Source
    reconnects: int

    @property
    def drops(self) -> int: ...
    def frames(self) -> Iterator[Frame]: ...
    def stop(self) -> None: ...


@dataclass(slots=True)
class Prepared:
    """A frame and its engine input, valid until the next one is taken."""

    frame: Frame
    batch: Batch
    lane: int  # which source


class Lane:
    """One source: its feed, its preprocessors, and the one frame that waits."""

    def __init__(self, number: int, feed: Feed, preprocessors: Sequence[Preprocess]) -> None:
        self.number = number
        self.feed = feed
        self.live = feed.source.live
        self.spare = list(preprocessors)
        self.waiting: tuple[Preprocess, Prepared] | None = None
        self.replaced = 0
        self.ended = False

    @property
    def drops(self) -> int:
        return self.feed.drops + self.replaced

    @property
    def reconnects(self) -> int:
        return self.feed.reconnects


class Ahead:
    """Use as a context manager, then iterate: frames of all sources in turn, until all have ended."""

    def __init__(self, feeds: Sequence[Feed], make_preprocess: Callable[[], Preprocess]) -> None:
        self.lanes = [Lane(number, feed, [make_preprocess() for _ in range(3)]) for number, feed in enumerate(feeds)]
        self._changed = threading.Condition()
        self._stopping = False
        self._error: BaseException | None = None
        self._taken: tuple[Lane, Preprocess] | None = None
        self._turn = 0
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), name=f"ahead-{lane.number}", daemon=True)
            for lane in self.lanes
        ]

    def __enter__(self) -> Ahead:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for lane in self.lanes:
            lane.feed.stop()
        for thread in self._threads:
            thread.join(timeout=10.0)

    def frames(self, stop: Callable[[], bool]) -> Iterator[Prepared]:
        """Yield until `stop()` or the end of every source. Raises what a source raised, after its last frame."""
        while not stop():
            prepared = self._take(stop)
            if prepared is None:
                return
            yield prepared

    def _take(self, stop: Callable[[], bool]) -> Prepared | None:
        with self._changed:
            self._release()
            while not stop():
                for offset in range(len(self.lanes)):
                    lane = self.lanes[(self._turn + offset) % len(self.lanes)]
                    if lane.waiting is not None:
                        self._turn += offset + 1
                        preprocess, prepared = lane.waiting
                        lane.waiting = None
                        self._taken = (lane, preprocess)
                        self._changed.notify_all()
                        return prepared
                if self._error is not None:
                    raise self._error
                if all(lane.ended for lane in self.lanes):
                    return None
                self._changed.wait(LOOK_UP_S)
        return None

    def _release(self) -> None:
        if self._taken is not None:
            lane, preprocess = self._taken
            lane.spare.append(preprocess)
            self._taken = None

    def _work(self, lane: Lane) -> None:
        error: BaseException | None = None
        try:
            for frame in lane.feed.frames():
                if not self._put(lane, frame):
                    break
        except BaseException as raised:  # carried to the frame loop, which raises it there
            error = raised
        with self._changed:
            lane.ended = True
            self._error = self._error or error
            self._changed.notify_all()

    def _put(self, lane: Lane, frame: Frame) -> bool:
        with self._changed:
            preprocess = lane.spare.pop()
        prepared = Prepared(frame, preprocess(frame.pixels), lane.number)
        with self._changed:
            while lane.waiting is not None and not lane.live and not self._stopping:
                self._changed.wait()
            if lane.waiting is not None:
                lane.spare.append(lane.waiting[0])
                lane.replaced += 1
            lane.waiting = (preprocess, prepared)
            self._changed.notify_all()
            return not self._stopping
