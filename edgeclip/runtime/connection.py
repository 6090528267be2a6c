"""One source being read by one thread, from its opening to its end, loss or abandonment."""

from __future__ import annotations

import math
import threading
import time

from edgeclip.errors import SourceError
from edgeclip.runtime.box import Box
from edgeclip.runtime.flood import FloodDetector
from edgeclip.types import Frame, Source

READ_AHEAD = 4  # frames decoded while one is being used, for files
LATE_NS = 1_000_000_000  # a paced source further behind than this starts its schedule anew


class Connection:
    """Reads `source` on its own thread into `box`; the box is closed when that thread is done.

    opened: set once the source is open. error: what ended it, or None for its natural end.
    active_ns: when the reader last got something (monotonic clock). next_index: of the frame to come.
    gave_s: between the first and the last frame that it got, of those a camera may have sent; 0.0 where it is flooded.
    """

    def __init__(self, source: Source, first_index: int) -> None:
        self.source = source
        self.box: Box[Frame] = Box(1 if source.live else READ_AHEAD, newest_wins=source.live)
        self.opened = threading.Event()
        self.error: BaseException | None = None
        self.started_ns = self.active_ns = time.monotonic_ns()
        self.next_index = first_index
        self.gave_s = 0.0
        self._abandoned = threading.Event()
        # A daemon, for a reader stuck in a driver must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"read {source.name}", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def abandon(self) -> None:
        """Ask the reader to stop after the read it is in. Returns at once."""
        self._abandoned.set()
        self.box.close()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self.source.open()
            self.active_ns = time.monotonic_ns()
            self.opened.set()
            if self.source.live:
                self._read_newest()
            else:
                self._read_every()
        except BaseException as error:  # handed to the supervisor, which raises it on the frame loop's thread
            self.error = error
        finally:
            self._close()

    def _close(self) -> None:
        """The box is closed whatever the driver does: who waits at it would wait for ever."""
        try:
            self.source.close()
        except BaseException as error:  # of what went wrong first, that counts
            self.error = self.error or error
        finally:
            self.box.close()

    def _read_every(self) -> None:
        source, box, abandoned = self.source, self.box, self._abandoned
        step = 1
        if source.max_fps and source.fps:
            step = max(1, math.ceil(source.fps / source.max_fps - 1e-6))
        while not abandoned.is_set():
            pixels = source.read()
            if pixels is None:
                return
            index = self.next_index
            self.next_index = index + 1
            if index % step == 0:
                box.put(Frame(pixels, index, time.monotonic_ns(), time.time_ns(), source.name, _picture(source)))

    def _read_newest(self) -> None:
        source, box, abandoned = self.source, self.box, self._abandoned
        read_period_ns = _period_ns(source.fps) if source.paced else 0
        period_ns = _period_ns(source.max_fps)
        if source.fps and source.max_fps and source.max_fps >= source.fps:
            period_ns = 0
        flood = None if source.paced else FloodDetector(source.fps)
        read_due_ns = due_ns = time.monotonic_ns()
        first_ns = 0
        while not abandoned.is_set():
            if read_period_ns:
                early_ns = read_due_ns - time.monotonic_ns()
                if early_ns > 0 and abandoned.wait(early_ns / 1e9):
                    return
                read_due_ns = read_due_ns + read_period_ns if early_ns > -LATE_NS else time.monotonic_ns()
            pixels = source.read()
            if pixels is None:
                return
            now_ns = time.monotonic_ns()
            self.active_ns = now_ns
            first_ns = first_ns or now_ns
            self.gave_s = (now_ns - first_ns) / 1e9
            index = self.next_index
            self.next_index = index + 1
            if flood is not None and flood.is_flood(pixels, now_ns):
                self.gave_s = 0.0
                raise SourceError(f"{source.name} repeats one picture, faster than a camera can")
            if period_ns:
                if now_ns < due_ns:
                    continue
                due_ns = max(due_ns + period_ns, now_ns)
            box.put(Frame(pixels, index, now_ns, time.time_ns(), source.name, _picture(source)))


def _picture(source: Source) -> str:
    return getattr(source, "picture", "")


def _period_ns(fps: float | None) -> int:
    return round(1e9 / fps) if fps else 0
