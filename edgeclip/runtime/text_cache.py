"""Text embeddings kept on disk between runs, one SQLite file for each embedding space.

A cache: whatever is wrong with it costs time, never an answer. Every entry carries a checksum and a bad one is a
miss; a damaged file is made anew; a place that cannot be written is reported through `notices` and done without.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeclip.errors import reason_of

MAX_ENTRIES = 100_000  # the oldest go first
BUSY_TIMEOUT_S = 5.0
_KEYS_PER_QUERY = 500  # SQLite before 3.32 takes at most 999
_TABLE = "CREATE TABLE IF NOT EXISTS label (key BLOB PRIMARY KEY, cut INTEGER, vector BLOB, checksum BLOB)"
_FAULTS = (sqlite3.Error, UnicodeDecodeError)  # the latter from messages that quote a damaged file's names
_ENVIRONMENT = ("locked", "readonly", "unable to open", "full", "disk I/O error", "not authorized")


@dataclass(frozen=True)
class Entry:
    """A label's embedding [D] float32, unit length, and how many of its prompts were cut to the context."""

    vector: npt.NDArray[np.float32]
    cut: int


def default_cache_dir(environ: Mapping[str, str] = os.environ) -> Path | None:
    """$EDGECLIP_CACHE, else $XDG_CACHE_HOME/edgeclip, else ~/.cache/edgeclip; None for a user without a home."""
    if named := environ.get("EDGECLIP_CACHE"):
        return Path(named)
    xdg = environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):  # the specification has relative ones ignored
        return Path(xdg) / "edgeclip"
    home = os.path.expanduser("~")
    return Path(home) / ".cache" / "edgeclip" if os.path.isabs(home) else None


class TextCache:
    """Entries of one embedding space, in `directory`/text/<space>.sqlite. `directory` None keeps nothing."""

    def __init__(self, directory: Path | None, space: str, dim: int, notices: Callable[[str], None]) -> None:
        self._path = directory / "text" / f"{space.removeprefix('sha256:')[:16]}.sqlite" if directory else None
        self._dim = dim
        self._notices = notices
        self._known: dict[bytes, Entry] = {}  # all that was read or written, to make a damaged file anew from

    def read(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """The sound entries among `keys`."""
        if self._path is None or not self._path.is_file():
            return {}
        try:
            found = self._select(self._path, keys)
        except _FAULTS as error:
            if not _is_damage(error):
                self._notices(f"the text cache {self._path} cannot be read: {error}")
            return {}
        self._known.update(found)
        return found

    def write(self, entries: Mapping[bytes, Entry]) -> None:
        """Keep `entries`: all of them or none, whatever happens to this process or to others that write."""
        if self._path is None or not entries:
            return
        self._known.update(entries)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._insert(self._path, entries)
            except _FAULTS as error:
                if not _is_damage(error):
                    raise
                self._path.unlink(missing_ok=True)
                self._path.with_name(f"{self._path.name}-journal").unlink(missing_ok=True)
                self._insert(self._path, self._known)
        except (OSError, *_FAULTS) as error:
            self._notices(f"text embeddings are not kept, the cache {self._path} cannot be written: {reason_of(error)}")

    def _select(self, path: Path, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        found: dict[bytes, Entry] = {}
        uri = f"{path.absolute().as_uri()}?mode=ro"  # so that a cache on read-only storage serves too
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)) as database:
            database.text_factory = bytes  # a column that damage turned into text need not decode
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                some = keys[start : start + _KEYS_PER_QUERY]
                places = ",".join("?" * len(some))
                query = f"SELECT key, cut, vector, checksum FROM label WHERE key IN ({places})"
                for key, cut, vector, checksum in database.execute(query, some):
                    if self._is_sound(key, cut, vector, checksum):
                        found[key] = Entry(np.frombuffer(vector, dtype="<f4").astype(np.float32), cut)
        return found

    @staticmethod
    def _insert(path: Path, entries: Mapping[bytes, Entry]) -> None:
        rows = [_row(key, entry) for key, entry in entries.items()]
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as database, database:
            database.execute("BEGIN IMMEDIATE")
            database.execute(_TABLE)
            if (verdict := database.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(verdict)  # a damaged index loses entries without a word
            database.executemany("INSERT OR REPLACE INTO label (key, cut, vector, checksum) VALUES (?, ?, ?, ?)", rows)
            database.execute("DELETE FROM label WHERE rowid <= (SELECT max(rowid) FROM label) - ?", (MAX_ENTRIES,))

    def _is_sound(self, key: object, cut: object, vector: object, checksum: object) -> bool:
        if not (isinstance(key, bytes) and isinstance(cut, int) and isinstance(vector, bytes)):
            return False
        return len(vector) == 4 * self._dim and checksum == _checksum(key, cut, vector)


def _row(key: bytes, entry: Entry) -> tuple[bytes, int, bytes, bytes]:
    vector = entry.vector.astype("<f4").tobytes()
    return key, entry.cut, vector, _checksum(key, entry.cut, vector)


def _checksum(key: bytes, cut: int, vector: bytes) -> bytes:
    return hashlib.sha256(b"%b|%d|%b" % (key, cut, vector)).digest()[:16]


def _is_damage(error: Exception) -> bool:
    """Whether the file is at fault (and is better made anew), not the place it is in."""
    return not (isinstance(error, sqlite3.OperationalError) and any(word in str(error) for word in _ENVIRONMENT))
