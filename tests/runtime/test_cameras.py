"""Several cameras in one process, one of them dead: real supervisors, sources that a test can switch off."""

from __future__ import annotations

import threading
import time

import numpy as np

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


def ages_ms(dead: str, seconds: float = 2.0) -> dict[str, list[float]]:
    """Frame ages at the engine, by camera, of two cameras that live and a third."""
    cameras = [Camera("yard"), Camera("gate", dead), Camera("door")]
    feeds = [Supervisor(lambda camera=camera: camera, wait=True, stall_timeout_s=1.0) for camera in cameras]
    ages: dict[str, list[float]] = {camera.name: [] for camera in cameras}
    for feed in feeds:
        feed.__enter__()
    end_s = time.monotonic() + seconds
    try:
        with Ahead(feeds, lambda: copied) as ahead:
            for prepared in ahead.frames(lambda: time.monotonic() > end_s):
                time.sleep(0.005)  # the engine
                ages[prepared.frame.source].append((time.monotonic_ns() - prepared.frame.captured_ns) / 1e6)
    finally:
        for feed in feeds:
            feed.stop()
            feed._leave()
    return ages


def test_a_dead_camera_slows_no_other() -> None:
    for dead in ("refuses", "hangs", "freezes"):
        ages = ages_ms(dead)
        assert ages["gate"] == []
        for camera in ("yard", "door"):
            assert len(ages[camera]) > 2.0 * 20 * 0.7, f"{camera} while the gate {dead}"
            assert np.percentile(ages[camera], 95) < 50.0, f"{camera} while the gate {dead}"
