"""How far a build is: TensorRT's nested phases as one stage with an ETA."""

from __future__ import annotations

import threading
from typing import Any

from edgeclip.progress import Progress
from edgeclip.runtime.backends.trt_library import Library

STEPS = 1000  # of one build


class Phases:
    """Nested phases -> how much of the whole is done. A phase fills one step of the phase it is in."""

    def __init__(self) -> None:
        self._phases: dict[str, tuple[str | None, int]] = {}  # name -> (parent, steps)
        self._done: dict[str, float] = {}  # name -> steps finished, and parts of the one at work
        self._root: str | None = None

    def start(self, name: str, parent: str | None, steps: int) -> None:
        if self._root is None:
            self._root = name
        self._phases[name] = (parent if parent in self._phases else None, max(1, steps))
        self._done[name] = 0.0

    def step(self, name: str, step: int) -> None:
        """Step number `step`, from 0, is finished."""
        if name in self._done:
            self._set(name, max(self._done[name], float(step + 1)))

    def finish(self, name: str) -> None:
        if name in self._phases:
            self._set(name, float(self._phases[name][1]))

    @property
    def share(self) -> float:
        """0 to 1, and never less than before."""
        if self._root is None:
            return 0.0
        return min(1.0, self._done[self._root] / self._phases[self._root][1])

    def _set(self, name: str, done: float) -> None:
        parent, steps = self._phases[name]
        before, self._done[name] = self._done[name], min(done, float(steps))
        gained = (self._done[name] - before) / steps
        if parent is not None and gained > 0:
            whole = int(self._done[parent])  # a child never fills more than the step its parent is at
            self._set(parent, min(self._done[parent] + gained, whole + 0.999))


class Monitor:
    """Reports to a Progress; asks TensorRT to stop when Ctrl-C was pressed, which may not cross its C++ frames."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._phases = Phases()
        self._told = 0
        self._lock = threading.Lock()
        self.interrupted = False

    def start(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._phases.start(name, parent, steps)

    def step(self, name: str, step: int) -> bool:
        """False asks the builder to give up."""
        with self._lock:
            self._phases.step(name, step)
            self._tell()
        return not self.interrupted

    def finish(self, name: str) -> None:
        with self._lock:
            self._phases.finish(name)
            self._tell()

    def _tell(self) -> None:
        now = int(self._phases.share * STEPS)
        if now > self._told:
            self._progress.advance(now - self._told)
            self._told = now


def make_monitor(library: Library, monitor: Monitor) -> Any:
    """An IProgressMonitor that feeds `monitor`; None where this TensorRT has none (before 10)."""
    interface = getattr(library.module, "IProgressMonitor", None)
    if interface is None:
        return None

    def begin(self: Any) -> None:
        interface.__init__(self)

    def phase_start(self: Any, name: str, parent: str | None, steps: int) -> None:
        try:
            monitor.start(name, parent, steps)
        except KeyboardInterrupt:
            monitor.interrupted = True

    def step_complete(self: Any, name: str, step: int) -> bool:
        try:
            return monitor.step(name, step)
        except KeyboardInterrupt:
            monitor.interrupted = True
            return False

    def phase_finish(self: Any, name: str) -> None:
        try:
            monitor.finish(name)
        except KeyboardInterrupt:
            monitor.interrupted = True

    methods = {"__init__": begin, "phase_start": phase_start, "step_complete": step_complete}
    return type("ProgressMonitor", (interface,), {**methods, "phase_finish": phase_finish})()
