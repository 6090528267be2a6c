"""Installed bundles, one of them in force: STATE/bundles/NAME-DIGEST12/, and `current` and `previous`, links to two.

A link is replaced by rename, so `current` always leads to a whole bundle. state.json tells of the one on probation and
of what happened. Two locks, both flock(2), freed by the kernel with their process: `.install` for the minutes an
installation takes, `.lock` for the moment of a change.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edgeclip.atomic import atomic_write, sync_directory
from edgeclip.bundle import is_held
from edgeclip.errors import UNAVAILABLE, EdgeclipError, UsageError

CURRENT, PREVIOUS = "current", "previous"
STATE = "state.json"
INCOMING = ".incoming-"  # where a bundle is unpacked; left behind by an installation that was killed
MAX_STARTS = 3  # starts on probation that did not end well, before the next one rolls back
LOCK_TIMEOUT_S = 30.0
EVENTS = 50  # kept


class Probation(msgspec.Struct):
    """bundle: on probation. previous: what it goes back to. starts: begun, and neither confirmed nor ended by request.

    failed: why it is to be rolled back; "" while it is not.
    """

    bundle: str
    previous: str | None
    since: str
    starts: int = 0
    failed: str = ""


class Event(msgspec.Struct):
    """What happened to a bundle: installed, confirmed, rolled back, removed; why, in words."""

    at: str
    what: str
    bundle: str
    why: str = ""


class State(msgspec.Struct):
    """age_p99_ms: of frames at their decision, by bundle, while it was trusted."""

    probation: Probation | None = None
    age_p99_ms: dict[str, float] = {}
    events: list[Event] = []


@dataclass(frozen=True)
class Listed:
    name: str
    bytes: int
    current: bool
    previous: bool
    status: str  # "in force", "on probation", "rolled back", "installed"
    why: str  # of a rollback
    starts: int  # on probation
    age_p99_ms: float | None


class Store:
    """settle() must come before anything else that reads: it finishes what a killed process began."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # -- what is there -------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        if not self.path.is_dir():
            return []
        return sorted(entry.name for entry in self.path.iterdir() if entry.is_dir() and not _special(entry))

    def target(self, link: str) -> str | None:
        """What `current` or `previous` leads to, where it does."""
        path = self.path / link
        return os.readlink(path) if path.is_symlink() and path.is_dir() else None

    def state(self) -> State:
        """One that cannot be read is begun anew, and says so: a device does not stop for a note about its past."""
        path = self.path / STATE
        try:
            return msgspec.json.decode(path.read_bytes(), type=State)
        except FileNotFoundError:
            return State()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return State(events=[Event(_now(), "state lost", self.target(CURRENT) or "", f"{path}: {error}")])

    def listed(self) -> list[Listed]:
        state, current, previous = self.state(), self.target(CURRENT), self.target(PREVIOUS)
        found = []
        for name in self.names():
            trial = state.probation if state.probation and state.probation.bundle == name else None
            last = next((event for event in reversed(state.events) if event.bundle == name), None)
            why = last.why if last is not None and last.what == "rolled back" and name != current else None
            status = "on probation" if trial else "in force" if name == current else "installed"
            found.append(
                Listed(
                    name=name,
                    bytes=sum(entry.stat().st_size for entry in os.scandir(self.path / name)),
                    current=name == current,
                    previous=name == previous,
                    status=status if why is None else "rolled back",
                    why=trial.failed if trial else why or "",
                    starts=trial.starts if trial else 0,
                    age_p99_ms=state.age_p99_ms.get(name),
                )
            )
        return found

    # -- changes -------------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self, name: str = ".lock", timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
        """Raises EdgeclipError where another process holds it for longer."""
        self._make()
        fd = os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            self._give(self.path / name)
            deadline_s = time.monotonic() + timeout_s
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline_s:
                        raise EdgeclipError(
                            f"another edgeclip is changing {self.path}", "wait for it, and try again", UNAVAILABLE
                        ) from None
                    time.sleep(0.02)
            yield
        finally:
            os.close(fd)

    def sweep(self) -> None:
        """Remove what killed processes left. Only with both locks."""
        for entry in self.path.iterdir():
            if entry.name.startswith(INCOMING):
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name.startswith(".") and entry.name.endswith((".part", ".new")):
                entry.unlink()

    def settle(self) -> State:
        """Finish a change that was cut off. Only with the lock, as for all that follow."""
        state = self.state()
        trial, current = state.probation, self.target(CURRENT)
        if trial is not None and trial.bundle != current:  # installed, never in force; or rolled back already
            if trial.failed:
                if self.target(PREVIOUS) == current:
                    self._link(PREVIOUS, None)
                self._note(state, "rolled back", trial.bundle, trial.failed)
            state.probation = None
            self._write(state)
        elif trial is not None and trial.failed:
            self._fall_back(state, trial)
        elif trial is not None and self.target(PREVIOUS) != trial.previous:
            self._link(PREVIOUS, trial.previous)
        return state

    def put_in_force(self, name: str, why: str = "") -> None:
        """`name` becomes current, on probation where there is another to go back to."""
        state, before = self.settle(), self.target(CURRENT)
        if name == before:
            return
        if state.probation is not None:  # its successor goes back to what was trusted last
            before = state.probation.previous or before
        state.probation = Probation(name, before if before != name else None, _now())
        self._note(state, "installed", name, why)
        self._write(state)
        self._link(CURRENT, name)
        self._link(PREVIOUS, state.probation.previous)

    def begin(self) -> str | None:
        """A run begins: the bundle it is to use. One start too many on probation rolls back first."""
        state = self.settle()
        trial = state.probation
        if trial is not None and trial.previous is not None and trial.starts >= MAX_STARTS:
            self.fail(f"{trial.starts} starts, and none was well for long enough: it crashed, hung or was killed")
        elif trial is not None:
            trial.starts += 1
            self._write(state)
        return self.target(CURRENT)

    def ended(self, name: str) -> None:
        """A run with it was stopped by request: that start does not count."""
        state = self.settle()
        if state.probation is not None and state.probation.bundle == name and state.probation.starts:
            state.probation.starts -= 1
            self._write(state)

    def confirm(self, name: str, age_p99_ms: float | None = None) -> bool:
        """It is trusted from here on. False where it was not on probation; its frame age is kept all the same."""
        state = self.settle()
        if age_p99_ms is not None:
            state.age_p99_ms = {known: age for known, age in state.age_p99_ms.items() if (self.path / known).is_dir()}
            state.age_p99_ms[name] = round(age_p99_ms, 3)
        confirmed = state.probation is not None and state.probation.bundle == name
        if confirmed:
            state.probation = None
            self._note(state, "confirmed", name)
        self._write(state)
        return confirmed

    def fail(self, why: str) -> str | None:
        """The bundle on probation is rolled back: the one in force again, None where there is none to go back to."""
        state = self.settle()
        trial = state.probation
        if trial is None or trial.previous is None:
            return None
        trial.failed = why
        self._write(state)  # a process killed after this line has its successor finish
        self._fall_back(state, trial)
        return trial.previous

    def roll_back(self, why: str = "by request") -> tuple[str, str]:
        """The bundle before is in force again. (old, new). Asked twice it does not go forth to the one that was left:
        that one is installed again. Raises UsageError where there is no previous."""
        state, current, previous = self.settle(), self.target(CURRENT), self.target(PREVIOUS)
        if current is None or previous is None:
            raise UsageError(
                f"{self.path} has no previous bundle to go back to",
                "install one: `edgeclip bundle install FILE`; one that `edgeclip bundle list` shows, by its path there",
            )
        state.probation = Probation(current, previous, _now(), failed=why)
        self._write(state)  # a process killed after this line has its successor finish
        self._fall_back(state, state.probation)
        return current, previous

    def remove(self, name: str) -> None:
        """Raises UsageError for one that is needed or unknown."""
        state = self.settle()
        if name not in self.names():
            raise UsageError(f"{name} is not installed", "see `edgeclip bundle list`")
        if name == self.target(CURRENT):
            raise UsageError(f"{name} is in force", "install another first, or `edgeclip bundle rollback`")
        if state.probation is not None and name == state.probation.previous:
            raise UsageError(f"{name} is what {state.probation.bundle} goes back to", "wait for its probation to end")
        if is_held(self.path / name):
            raise UsageError(f"a run that is going on uses {name}", "systemctl reload edgeclip, then remove it")
        if name == self.target(PREVIOUS):
            self._link(PREVIOUS, None)
        self._discard(name)
        state.age_p99_ms.pop(name, None)
        self._write(state)

    def prune(self) -> None:
        """Remove all but current, previous and what they go back to, and what a run that is going on still uses."""
        state = self.settle()
        kept = {self.target(CURRENT), self.target(PREVIOUS), state.probation.previous if state.probation else None}
        for name in self.names():
            if name not in kept and not is_held(self.path / name):
                self._discard(name)

    def adopt(self, fresh: Path, name: str) -> None:
        """The unpacked, synced directory `fresh` becomes NAME in the store."""
        fresh.chmod(0o755)
        self._give(fresh, *fresh.iterdir())
        os.rename(fresh, self.path / name)
        sync_directory(self.path)

    def incoming(self) -> Path:
        path = self.path / f"{INCOMING}{os.getpid()}"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o755)
        return path

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _fall_back(self, state: State, trial: Probation) -> None:
        self._link(CURRENT, trial.previous)
        self._link(PREVIOUS, None)
        self._note(state, "rolled back", trial.bundle, trial.failed)
        state.probation = None
        self._write(state)

    def _discard(self, name: str) -> None:
        """Renamed first: half a bundle never has a bundle's name."""
        away = self.path / f"{INCOMING}gone-{name}"
        shutil.rmtree(away, ignore_errors=True)
        os.rename(self.path / name, away)
        shutil.rmtree(away, ignore_errors=True)

    def _link(self, link: str, name: str | None) -> None:
        path = self.path / link
        if name is None:
            path.unlink(missing_ok=True)
        else:
            beside = self.path / f".{link}.new"
            beside.unlink(missing_ok=True)
            beside.symlink_to(name)
            self._give(beside)
            os.replace(beside, path)
        sync_directory(self.path)

    def _note(self, state: State, what: str, bundle: str, why: str = "") -> None:
        state.events = [*state.events, Event(_now(), what, bundle, why)][-EVENTS:]

    def _write(self, state: State) -> None:
        with atomic_write(self.path / STATE) as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
        self._give(self.path / STATE)

    def _make(self) -> None:
        if not self.path.is_dir():
            self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            self.path.mkdir(mode=0o755, exist_ok=True)
            self._give(self.path)

    def _give(self, *paths: Path) -> None:
        """What root writes belongs to whom the state directory belongs to: the service has to go on with it."""
        if os.geteuid() != 0:
            return
        owner = self.path.parent.stat()
        for path in paths:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _special(entry: Path) -> bool:
    return entry.is_symlink() or entry.name.startswith(".")


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
