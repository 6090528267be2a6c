"""How long work reports where it stands. Library code gets one of these and never prints."""

from __future__ import annotations

import time
from types import TracebackType
from typing import IO, Any, Protocol


class Progress(Protocol):
    """Called by one thread. `stage` ends the stage before it; `done` ends the last one."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage of `total` steps (None: unknown, no ETA)."""

    def advance(self, n: int = 1) -> None:
        """n more steps are finished."""

    def note(self, text: str) -> None:
        """One line worth keeping: a figure, a decision, a warning."""

    def done(self) -> None:
        """The current stage is finished. May be called twice."""


class Silent:
    """For callers that want no report."""

    def stage(self, name: str, total: int | None = None) -> None:
        return

    def advance(self, n: int = 1) -> None:
        return

    def note(self, text: str) -> None:
        return

    def done(self) -> None:
        return


class Lines:
    """Plain lines for logs and pipes: one when a stage begins, one every `every_s` seconds, one when it ends."""

    def __init__(self, stream: IO[str], every_s: float = 5.0) -> None:
        self._stream = stream
        self._every_s = every_s
        self._name = ""
        self._total: int | None = None
        self._count = 0
        self._began_s = self._said_s = 0.0

    def stage(self, name: str, total: int | None = None) -> None:
        self.done()
        self._name, self._total, self._count = name, total, 0
        self._began_s = self._said_s = time.monotonic()
        self._say(f"{name}: started" + (f", {total} steps" if total else ""))

    def advance(self, n: int = 1) -> None:
        self._count += n
        now_s = time.monotonic()
        if self._name and now_s - self._said_s >= self._every_s:
            self._said_s = now_s
            self._say(f"{self._name}: {self._where(now_s - self._began_s)}")

    def note(self, text: str) -> None:
        self._say(f"{self._name}: {text}" if self._name else text)

    def done(self) -> None:
        if self._name:
            self._say(f"{self._name}: done in {duration(time.monotonic() - self._began_s)}")
            self._name = ""

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None:
            self.done()

    def _where(self, elapsed_s: float) -> str:
        if not self._total:
            return f"{self._count}"
        remaining_s = elapsed_s / self._count * (self._total - self._count) if self._count else 0.0
        share = 100 * self._count // self._total
        return f"{self._count}/{self._total} ({share} %), {duration(max(remaining_s, 0.0))} left"

    def _say(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


ROOM_FOR_BARS = 60  # columns of a terminal; in fewer the figures beside a bar would be cut off


class Bars:
    """One rich bar per stage, with steps, elapsed time and ETA, on a terminal."""

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        console = Console(file=stream)
        self._rich = RichProgress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}", markup=False),
            *([BarColumn()] if console.width >= ROOM_FOR_BARS else []),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=5,
        )
        self._task: Any = None

    def stage(self, name: str, total: int | None = None) -> None:
        self.done()
        self._task = self._rich.add_task(name, total=total)

    def advance(self, n: int = 1) -> None:
        if self._task is not None:
            self._rich.advance(self._task, n)

    def note(self, text: str) -> None:
        self._rich.console.print(text, markup=False, highlight=False)

    def done(self) -> None:
        if self._task is None:
            return
        task = self._rich.tasks[self._task]
        total = task.total if task.total is not None else max(task.completed, 1)
        self._rich.update(self._task, total=total, completed=total)
        self._task = None

    def __enter__(self) -> Bars:
        self._rich.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None:
            self.done()
        self._rich.stop()


def progress_for(stream: IO[str]) -> Lines | Bars:
    """Bars on a terminal, lines elsewhere. Use as a context manager."""
    return Bars(stream) if stream.isatty() else Lines(stream)


def duration(seconds: float) -> str:
    """12.3 s, 4 min 05 s, 2 h 07 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
