"""A source that does as it is told, and a supervisor that is watched at its work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rtsp_server import moving_bar

from edgeclip.runtime.supervisor import Supervisor
from edgeclip.types import Frame, Pixels

Step = Callable[[int], Pixels | None]


class Fake:
    """A source whose read number i is step(i)."""

    name = "fake"
    max_fps: float | None = None

    def __init__(self, step: Step, *, live: bool = True, paced: bool = False, fps: float | None = None) -> None:
        self.step, self.live, self.paced, self.fps = step, live, paced, fps
        self.reads, self.closed = 0, threading.Event()

    def open(self) -> None:
        self.reads = 0

    def read(self) -> Pixels | None:
        self.reads += 1
        return self.step(self.reads - 1)

    def close(self) -> None:
        self.closed.set()


def at_50_fps(index: int) -> Pixels:
    time.sleep(0.02)
    return moving_bar(index, 64, 48)


@contextmanager
def watching(supervisor: Supervisor) -> Iterator[list[Frame]]:
    """Collects frames on a thread of its own while the block runs."""
    seen: list[Frame] = []
    with supervisor:
        thread = threading.Thread(target=lambda: seen.extend(supervisor.frames()))
        thread.start()
        try:
            yield seen
        finally:
            supervisor.stop()
            thread.join(5)
            assert not thread.is_alive()


def seconds_until(condition: Callable[[], bool], limit_s: float = 15.0) -> float:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < limit_s, "it never happened"
        time.sleep(0.005)
    return time.monotonic() - start
