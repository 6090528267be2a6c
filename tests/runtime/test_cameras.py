"""Several cameras in one process, one of them dead: real supervisors, sources that a test can switch off."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from edgeclip.errors import SourceError
from edgeclip.runtime.ahead import Ahead, Batch
from edgeclip.runtime.supervisor import Supervisor
from edgeclip.types import Pixels


class Camera:
    """20 frames a second, until it is dead: then open() refuses, or hangs, or a read() never returns."""

    live, paced = True, False
    fps: float | None = 20.0
    max_fps: float | None = None

    def __init__(self, name: str, dead: str = "") -> None:
        self.name, self.dead = name, dead
        self._count = 0

    def open(self) -> None:
        if self.dead == "refuses":
            raise SourceError(f"{self.name}: no route to host")
        if self.dead == "hangs":
            threading.Event().wait(20)

    def read(self) -> Pixels:
        if self.dead == "freezes":
            threading.Event().wait(20)
        time.sleep(0.05)
        self._count += 1
        return np.full((8, 8, 3), self._count % 256, np.uint8)

    def close(self) -> None:
        return


def copied(pixels: Pixels) -> Batch:
    return pixels[None]


def seen_beside(dead: str, limit_s: float = 15.0) -> dict[str, int]:
    """How many frames come to the engine, by camera, until two that live have given 40 each: a third is dead."""
    cameras = [Camera("yard"), Camera("gate", dead), Camera("door")]
    feeds = [Supervisor(lambda camera=camera: camera, wait=True, stall_timeout_s=1.0) for camera in cameras]
    seen = {camera.name: 0 for camera in cameras}
    for feed in feeds:
        feed.__enter__()
    end_s = time.monotonic() + limit_s

    def over() -> bool:
        return min(seen["yard"], seen["door"]) >= 40 or time.monotonic() > end_s

    try:
        with Ahead(feeds, lambda _: copied) as ahead:
            for prepared in ahead.frames(over):
                time.sleep(0.005)  # the engine
                seen[prepared.frame.source] += 1
    finally:
        for feed in feeds:
            feed.stop()
            feed._leave()
    return seen


@pytest.mark.parametrize("dead", ["refuses", "hangs", "freezes"])
def test_a_dead_camera_holds_up_no_other(dead: str) -> None:
    """Two seconds for 40 frames on a quiet machine; a dead one hangs for twenty."""
    seen = seen_beside(dead)
    assert seen["gate"] == 0
    assert min(seen["yard"], seen["door"]) >= 40
