"""Decides and delivers one frame behind the engine, on a thread of its own, so that the engine goes straight on.

The counterpart of ahead.py. Nothing is lost: where decisions or sinks are slower than the engine, the engine waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType

import numpy as np

from edgeclip.region import WHOLE, Regions
from edgeclip.types import Embeddings, Frame

SLOTS = 2  # embeddings between the engine and the decision: one being decided, one waiting

Work = Callable[[Embeddings, Frame, int, Regions], object]


class Behind:
    """Calls work(embeddings [R, D], frame, lane, regions) for everything put, in order. Use as a context manager.

    put() and leaving raise what `work` raised; what was put after that is not worked on. finish() is called last, on
    the same thread, unless `work` failed.
    """

    def __init__(self, work: Work, dim: int, finish: Callable[[], object] = lambda: None) -> None:
        self._work = work
        self._finish = finish
        self._error: BaseException | None = None
        self._free: SimpleQueue[Embeddings] = SimpleQueue()
        self._full: SimpleQueue[tuple[Embeddings, Frame, int, Regions] | None] = SimpleQueue()
        for _ in range(SLOTS):
            self._free.put(np.empty((1, dim), np.float32))
        self._thread = threading.Thread(target=self._run, name="behind", daemon=True)

    def __enter__(self) -> Behind:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._full.put(None)
        self._thread.join()
        ended = error is None or isinstance(error, Exception)  # as a source's last word; Ctrl-C goes first
        if ended and self._error is not None and error is not self._error:
            raise self._error  # it is of an earlier frame than what ended the others

    def put(self, embeddings: Embeddings, frame: Frame, lane: int, regions: Regions = WHOLE) -> None:
        """Copies the embeddings [R, D], a row for each region; waits for a free slot."""
        slot = self._free.get()
        if self._error is not None:
            raise self._error
        if slot.shape != embeddings.shape:
            slot = np.empty_like(embeddings)
        np.copyto(slot, embeddings)
        self._full.put((slot, frame, lane, regions))

    def _run(self) -> None:
        work, take, give_back = self._work, self._full.get, self._free.put
        while (item := take()) is not None:
            slot, frame, lane, regions = item
            if self._error is None:
                try:
                    work(slot, frame, lane, regions)
                except BaseException as error:  # carried to the frame loop, which raises it there
                    self._error = error
            give_back(slot)
        if self._error is None:
            try:
                self._finish()
            except BaseException as error:  # carried like the others
                self._error = error
