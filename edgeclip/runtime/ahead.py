"""Reads and preprocesses one frame ahead of the engine, on a thread per source: the engine waits for neither.

Each source has three preprocessors: one being filled, one waiting, one at the engine. A live source replaces the frame
that waits (newest wins, the loss is counted); a finite one waits for a free preprocessor, and loses nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Protocol

from edgeclip.region import WHOLE, Regions
from edgeclip.runtime.crops import Batch, Crops, Preprocess
from edgeclip.runtime.preprocess import Scratch
from edgeclip.types import Frame, Source

SLOTS = 3
END_S = 10.0  # for all threads together to come to their ends
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
    batch: Batch  # [R, H, W, 3]
    lane: int  # which source
    regions: Regions = WHOLE  # what the rows of the batch show


class Lane:
    """One source: its feed, its preprocessors, and what waits for the engine."""

    def __init__(self, number: int, feed: Feed, preprocessors: Sequence[Crops]) -> None:
        self.number = number
        self.feed = feed
        self.error: BaseException | None = None
        self.free: SimpleQueue[Crops | None] = SimpleQueue()
        for preprocess in preprocessors:
            self.free.put(preprocess)
        self._newest_wins = feed.source.live
        self._waiting: deque[tuple[Crops, Prepared]] = deque()
        self._lock = threading.Lock()
        self._replaced = 0
        self.max_fps: float | None = None  # may change at any time
        self.taken = 0  # frames handed on to the engine
        self.over = False  # what waits for its time need not
        self._due_s = 0.0
        self._drops_before, self._reconnects_before = feed.drops, feed.reconnects  # of an earlier run with this feed

    @property
    def drops(self) -> int:
        return self.feed.drops - self._drops_before + self._replaced

    @property
    def reconnects(self) -> int:
        return self.feed.reconnects - self._reconnects_before

    def takes_next(self) -> bool:
        """Whether the frame that has come is to be used, where max_fps is set. A live source's others are passed over
        and counted; a finite one is made to wait, and loses none."""
        limit = self.max_fps
        if limit is None:
            return True
        now_s = time.monotonic()
        early_s = self._due_s - now_s
        if early_s > 0.0:
            if self._newest_wins:
                self._replaced += 1
                return False
            while early_s > 0.0 and not self.over:
                time.sleep(min(early_s, LOOK_UP_S))
                early_s = self._due_s - time.monotonic()
        self._due_s = max(self._due_s + 1.0 / limit, now_s)
        return True

    def put(self, preprocess: Crops, prepared: Prepared) -> bool:
        """Let it wait for the engine. True where nothing waited before."""
        with self._lock:
            waited = bool(self._waiting)
            if waited and self._newest_wins:
                self.free.put(self._waiting.popleft()[0])
                self._replaced += 1
            self._waiting.append((preprocess, prepared))
        return not waited

    def take(self) -> tuple[tuple[Crops, Prepared] | None, bool]:
        """What waits longest, None where nothing does; and whether more waits."""
        with self._lock:
            if not self._waiting:
                return None, False
            self.taken += 1
            return self._waiting.popleft(), bool(self._waiting)


class Ahead:
    """Use as a context manager, then iterate: frames of all sources as they come, until all have ended.

    make_preprocess: called for each preprocessor, with what those of one thread share.
    regions(): what is cut from the next frame.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        make_preprocess: Callable[[Scratch], Preprocess],
        regions: Callable[[], Regions] = lambda: WHOLE,
    ) -> None:
        self._regions = regions
        self.lanes: list[Lane] = []
        for number, feed in enumerate(feeds):
            scratch = Scratch()
            self.lanes.append(Lane(number, feed, [Crops(make_preprocess(scratch)) for _ in range(SLOTS)]))
        # A lane that has frames waiting is in it once, so that each has its turn; and once more for its end.
        self._ready: SimpleQueue[Lane] = SimpleQueue()
        self._running = len(self.lanes)
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), name=f"ahead-{lane.number}", daemon=True)
            for lane in self.lanes
        ]

    def __enter__(self) -> Ahead:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for lane in self.lanes:
            lane.over = True
            lane.feed.stop()
            lane.free.put(None)
        deadline_s = time.monotonic() + END_S
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))

    def frames(self, stop: Callable[[], bool]) -> Iterator[Prepared]:
        """groups() of one."""
        for group in self.groups(stop):
            yield from group

    def groups(self, stop: Callable[[], bool], most: int = 1) -> Iterator[list[Prepared]]:
        """Yield until `stop()` or the end of every source: the frame whose turn it is, and up to `most` in all of those
        that wait as well, for an engine that takes several at once. None is waited for to fill a group.

        Raises what a source raised, after its last frame.
        """
        while self._running and not stop():
            held: list[tuple[Lane, Crops]] = []
            group: list[Prepared] = []
            while len(group) < most and (found := self._next(wait=not group)) is not None:
                lane, preprocess, prepared = found
                held.append((lane, preprocess))
                group.append(prepared)
            try:
                if group:
                    yield group
            finally:
                for lane, preprocess in held:
                    lane.free.put(preprocess)

    def _next(self, wait: bool) -> tuple[Lane, Crops, Prepared] | None:
        """Whose turn it is; None where nobody is there. wait: for a moment; and a lane's end is noted."""
        try:
            lane = self._ready.get(timeout=LOOK_UP_S) if wait else self._ready.get_nowait()
        except Empty:
            return None
        taken, more = lane.take()
        if more or (taken is None and not wait):
            self._ready.put(lane)
        if taken is not None:
            return lane, *taken
        if wait:
            self._running -= 1
            if lane.error is not None:
                raise lane.error
        return None

    def _work(self, lane: Lane) -> None:
        try:
            for frame in lane.feed.frames():
                if not lane.takes_next():
                    continue
                preprocess = lane.free.get()
                if preprocess is None:
                    break
                regions = self._regions()
                batch = preprocess(frame.pixels, regions)
                if lane.put(preprocess, Prepared(frame, batch, lane.number, regions)):
                    self._ready.put(lane)
        except BaseException as error:  # carried to the frame loop, which raises it there
            lane.error = error
        self._ready.put(lane)
