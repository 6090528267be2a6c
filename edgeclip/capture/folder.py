"""A calibration set on disk while it grows. Whatever kills the capture, no frame in it is lost or torn.

    frames/000001.png    every frame that is kept, as the camera gave it
    index.jsonl          a line for each frame that was ever kept; where the file is gone, it was replaced
    history.jsonl        how the capture went: counts and distances, a line now and then

A frame is taken in three steps, each on the disk before the next: its line, its picture (renamed into place), the
removal of the picture it replaces. Reading the index back undoes or finishes whichever was the last.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, TypeVar

import msgspec

from edgeclip.atomic import atomic_write, sync_directory
from edgeclip.errors import ConfigError, DataError

INDEX = "index.jsonl"
HISTORY = "history.jsonl"
FRAMES = "frames"

FileName = Annotated[str, msgspec.Meta(pattern=r"^\d{6,9}\.png$")]


class Row(msgspec.Struct, frozen=True):
    """One frame of the index.

    file: in frames/. time: of the capture, ISO 8601, UTC. source: without credentials. frame: its index in the source.
    seconds: of capturing before it, this and earlier runs together. sharpness: variance of the Laplacian.
    distance: to the nearest frame kept at that time, null for the first. replaces: the file it took the place of.
    """

    file: FileName
    time: str
    source: str
    frame: int
    seconds: float
    sharpness: float
    distance: float | None = None
    replaces: FileName | None = None


class Counts(msgspec.Struct):
    """Frames looked at, over all runs, and why others were not kept.

    near: hardly to be told from one that is kept. redundant: nearer to one that is kept than the closest two are.
    replaced: kept once, and taken out for a newer one.
    """

    seen: int = 0
    blank: int = 0
    dark: int = 0
    blurred: int = 0
    near: int = 0
    redundant: int = 0
    replaced: int = 0


class Tick(msgspec.Struct, frozen=True):
    """A line of the history. novelty, novelty_most: distance to the nearest frame kept, of the usable frames since the
    tick before: median and greatest; null where there were none. closest: distance of the closest pair kept."""

    seconds: float
    kept: int
    counts: Counts
    novelty: float | None = None
    novelty_most: float | None = None
    closest: float | None = None


Line = TypeVar("Line", Row, Tick)


class CaptureFolder:
    """Use as a context manager; entering makes the folder, or reads one back and mends it.

    rows: frames kept, by file name, oldest first. history: ticks of all runs.
    Raises ConfigError where the folder cannot be written, is something else's or is being captured into, DataError for
    an index that is damaged in the middle.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.rows: dict[str, Row] = {}
        self.history: list[Tick] = []
        self._number = 0
        self._index: IO[bytes] | None = None
        self._ticks: IO[bytes] | None = None

    def __enter__(self) -> CaptureFolder:
        try:
            with self._writing():
                self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._close()

    def path(self, file: str) -> Path:
        return self.directory / FRAMES / file

    def next_file(self) -> str:
        """The name for a frame to come."""
        return f"{self._number + 1:06d}.png"

    def add(self, row: Row, picture: bytes) -> None:
        """Keep a frame under row.file, the last next_file(). On return it is on the disk, and row.replaces is gone."""
        index = _opened(self._index)
        with self._writing():
            index.write(msgspec.json.encode(row) + b"\n")
            index.flush()
            os.fsync(index.fileno())
            with atomic_write(self.path(row.file)) as stream:
                stream.write(picture)
            if row.replaces is not None:
                self.path(row.replaces).unlink(missing_ok=True)
                del self.rows[row.replaces]
        self._number += 1
        self.rows[row.file] = row

    def note(self, tick: Tick) -> None:
        """Add to the history. Not worth waiting for the disk."""
        ticks = _opened(self._ticks)
        with self._writing():
            ticks.write(msgspec.json.encode(tick) + b"\n")
            ticks.flush()
        self.history.append(tick)

    def _open(self) -> None:
        index, frames = self.directory / INDEX, self.directory / FRAMES
        if self.directory.exists() and not index.exists() and any(self.directory.iterdir()):
            raise ConfigError(
                f"{self.directory} is not empty and holds no captured set ({INDEX})", "give --out a new folder"
            )
        frames.mkdir(parents=True, exist_ok=True)
        self._index = index.open("ab+")
        try:
            fcntl.flock(self._index, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{self.directory} is being captured into by another edgeclip", "wait for it, or give another --out"
            ) from error
        self._ticks = (self.directory / HISTORY).open("ab+")
        sync_directory(self.directory)
        for part in (*self.directory.glob(".*.part"), *frames.glob(".*.part")):
            part.unlink()
        self.history = _read(self._ticks, Tick)
        self._replay(_read(self._index, Row))

    def _replay(self, lines: list[Row]) -> None:
        for row in lines:
            self._number = max(self._number, int(row.file.partition(".")[0]))
            if not self.path(row.file).exists():
                continue  # replaced, removed by hand, or killed before its picture was there
            self.rows[row.file] = row
            if row.replaces in self.rows:
                self.path(row.replaces).unlink()
                del self.rows[row.replaces]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"cannot write {self.directory}: {error.strerror}",
                "make room or name another --out, then give the same command again: nothing captured so far is lost",
            ) from error

    def _close(self) -> None:
        for stream in (self._index, self._ticks):
            if stream is not None:
                with suppress(OSError):  # of what could not be written, add() or note() has told
                    stream.close()
        self._index = self._ticks = None


def _read(stream: IO[bytes], kind: type[Line]) -> list[Line]:
    """All lines; half a line at the end, where a run was killed, is cut off."""
    stream.seek(0)
    data = stream.read()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        stream.truncate(whole)
    lines = enumerate(data[:whole].splitlines(), 1)
    return [_decoded(line, kind, f"{stream.name}:{number}") for number, line in lines]


def _decoded(line: bytes, kind: type[Line], place: str) -> Line:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.DecodeError as error:
        raise DataError(f"{place}: {error}", "remove that line: the other frames are still good") from error


def _opened(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("a CaptureFolder is used as a context manager")
    return stream
