"""A run with the bundle in force of a store: its start is counted, its frame ages are watched, and once it has been
well for long enough it is trusted. What fails before that is rolled back, and the run goes on with the one before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from edgeclip.bundle import STORED, check_bundle
from edgeclip.container import open_container
from edgeclip.errors import DataError, EdgeclipError, EngineError, reason_of
from edgeclip.runtime.pace import Ages
from edgeclip.state import store_path
from edgeclip.store import CURRENT, PREVIOUS, Probation, Store
from edgeclip.types import Decision, Frame, Sink

LOOK_S = 5.0  # between two looks at the frame ages
RECORD_S = 3600.0  # between two records of a trusted bundle's
MIN_DECISIONS = 100  # before anything is concluded
WORSE, WORSE_MS = 1.5, 50.0  # times, and milliseconds, that the 99th percentile may be above the bundle's before


class AgeError(EngineError):
    """Frames are decided later than with the bundle before."""


class Watch(Sink, Protocol):
    def failed(self, error: Exception) -> bool:
        """A run ended with `error`: whether it was rolled back for that, and is to be begun again."""
        ...

    def ended(self) -> None:
        """A run ended as it was asked to, or for a reason that lies not with the bundle."""
        ...


def watch_bundle(named: str | None, probation_s: float, notify: Callable[[str], None]) -> Watch:
    """named: what the configuration calls the bundle: `current`, or the path of a store's. Others need no watch."""
    path = store_path() / CURRENT if named == STORED and not Path(STORED).exists() else Path(named or "")
    if path.name != CURRENT or not path.is_symlink():
        return Unwatched()
    return Watched(Store(path.parent), probation_s, notify)


class Unwatched:
    def open(self) -> None:
        return

    def write(self, decision: Decision, frame: Frame) -> None:
        return

    def close(self) -> None:
        return

    def failed(self, error: Exception) -> bool:
        return False

    def ended(self) -> None:
        return


class Watched:
    """Begins with the construction. write() comes from the thread that decides, the rest from the one that runs."""

    def __init__(
        self,
        store: Store,
        probation_s: float,
        notify: Callable[[str], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._probation_s, self._notify, self._clock_s = store, probation_s, notify, clock_s
        self._ages, self._count = Ages(), 0
        self._first_s = self._look_at_s = self._record_at_s = 0.0
        self._name = store.target(CURRENT) or ""
        self._trial: Probation | None = None
        self._limit_ms: float | None = None
        self._counted = False
        with self._noted():
            self._begin()
            self._counted = True

    def _begin(self) -> None:
        store, notify = self._store, self._notify
        with store.locked():
            trial = store.state().probation
            self._name = store.begin() or ""
            state = store.state()
        if trial is not None and state.probation is None and trial.bundle != self._name:
            notify(f"{trial.bundle} was rolled back to {self._name}: {state.events[-1].why}")
        self._trial = state.probation
        if self._trial is not None:
            before_ms = state.age_p99_ms.get(self._trial.previous or "")
            self._limit_ms = None if before_ms is None else max(WORSE * before_ms, before_ms + WORSE_MS)
            notify(f"{self._name} is on probation for {self._probation_s:g} s, start {self._trial.starts}")

    def open(self) -> None:
        return

    def write(self, decision: Decision, frame: Frame) -> None:
        """Raises AgeError where frames have become too old."""
        now_s = self._clock_s()
        if not self._count:
            self._first_s, self._look_at_s, self._record_at_s = now_s, now_s + LOOK_S, now_s + RECORD_S
        self._ages.add(decision.age_ns)
        self._count += 1
        if now_s >= self._look_at_s and self._count >= MIN_DECISIONS:
            self._look_at_s = now_s + min(LOOK_S, self._probation_s)
            self._look(now_s)

    def close(self) -> None:
        return

    def failed(self, error: Exception) -> bool:
        back = None
        if self._trial is not None and isinstance(error, (EngineError, DataError)):
            with self._noted(), self._store.locked():
                back = self._store.fail(str(error))
        elif isinstance(error, DataError) and self._is_damaged(self._name):
            before = self._store.target(PREVIOUS)
            if before is not None and not self._is_damaged(before):
                with self._noted(), self._store.locked():
                    back = self._store.roll_back(str(error))[1]
        else:
            self.ended()
        if back is None:
            return False
        self._notify(f"{self._name} is rolled back to {back}: {error}")
        return True

    def _is_damaged(self, name: str) -> bool:
        """A card rots, and a package gives way to an older one: what was trusted cannot be opened any more."""
        try:
            check_bundle(open_container(self._store.path / name))
        except DataError:
            return True
        return False

    def ended(self) -> None:
        if not self._counted:
            return
        with self._noted(), self._store.locked():
            if self._trial is not None:
                self._store.ended(self._name)
            elif self._count >= MIN_DECISIONS:
                self._store.confirm(self._name, self._ages.percentile_ms(99))

    def _look(self, now_s: float) -> None:
        age_ms = self._ages.percentile_ms(99)
        if self._trial is None:
            if now_s >= self._record_at_s:
                self._record_at_s = now_s + RECORD_S
                self._trust(age_ms)
            return
        if self._limit_ms is not None and age_ms > self._limit_ms:
            raise AgeError(
                f"99 % of frames are decided within {age_ms:.0f} ms with {self._name}; more than "
                f"{self._limit_ms:.0f} ms is too much beside the bundle before"
            )
        if now_s - self._first_s >= self._probation_s:
            self._trial = None
            self._notify(f"{self._name} has been well for {self._probation_s:g} s, and is trusted")
            self._trust(age_ms)

    def _trust(self, age_ms: float) -> None:
        if not self._counted:  # its start could not be noted, and it may be on probation
            return
        with self._noted(), self._store.locked():
            self._store.confirm(self._name, age_ms)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """A full or read-only disk: what is known of the bundle is not kept, and the run goes on. A camera does not go
        blind for want of a note; such a start is not counted."""
        try:
            yield
        except (EdgeclipError, OSError) as error:
            where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
            self._notify(f"what is known of {self._name} cannot be kept: {where}{reason_of(error)}")
