"""The outbox: every message, and how far it has come with every sink, in SQLite on the device's own disk.

What add() returned for is on disk: journal_mode WAL with synchronous FULL fsyncs each commit
(https://sqlite.org/pragma.html#pragma_synchronous). A damaged file is moved aside and a new one begun.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from edgeclip.errors import UNAVAILABLE, ConfigError, DataError, EdgeclipError
from edgeclip.events.delivery import Message, Rejected
from edgeclip.events.event import ENDED, STARTED, Event, encode

State = Literal["pending", "delivered", "dead"]
T = TypeVar("T")

OUTBOX = "outbox.sqlite"  # in the state directory
CACHE_KB = 256  # of pages: the usual 2 MB fill up within the hour, and are never given back
BUSY_S = 10.0
PAGE_BYTES = 4096
KEPT_ASIDE = 2  # damaged files, each with its -wal and -shm
MOST_ROWS = 2**63 - 1  # that SQLite counts to
FORGOTTEN = 200  # messages at once: what one transaction writes beside the file is small
SPARE_PAGES = 256  # for marking what was delivered, when no message finds room any more
SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, event TEXT NOT NULL, type TEXT NOT NULL,
    body BLOB NOT NULL, written_ms INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS message_event ON message (event, type);
CREATE INDEX IF NOT EXISTS message_written ON message (written_ms);
CREATE TABLE IF NOT EXISTS delivery (
    sink TEXT NOT NULL, sequence INTEGER NOT NULL REFERENCES message (sequence), state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '', since_ms INTEGER NOT NULL,
    PRIMARY KEY (sequence, sink)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS delivery_pending ON delivery (sink, sequence) WHERE state = 'pending';
"""
MESSAGE = "sequence, id, CAST(body AS BLOB), written_ms"  # in the order of Message
DAMAGED = ("malformed", "not a database", "database corruption", "disk image")
PASSING = ("disk is full", "disk I/O error", "database is locked")  # may be well at the next start


class Delivered(NamedTuple):
    """How far one message has come with one sink. since_ms: wall clock of its last change."""

    sink: str
    state: State
    attempts: int
    error: str
    since_ms: int


class Outbox:
    """The database at `path`. Every method may be called from any thread; one at a time works on it.

    notify: told when a damaged file was put aside, and of messages that cannot be read. max_bytes: what the file may
    grow to; beyond it add() raises sqlite3.OperationalError, as for a full disk. mends: whether a damaged file is put
    aside; where it is not, every method raises DataError. Raises ConfigError for a file that cannot be opened,
    EdgeclipError (UNAVAILABLE) where the disk is full.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 256 << 20,
        notify: Callable[[str], None] = lambda text: None,
        mends: bool = True,
    ) -> None:
        self._path = path
        self.max_pages = max_bytes // PAGE_BYTES
        self._notify, self._mends = notify, mends
        self._lock = threading.RLock()
        self._closed = False
        self._database: sqlite3.Connection | None = self._opened()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._database is not None:
                self._database.close()

    def add(self, events: Sequence[Event], sinks: Sequence[str]) -> None:
        """Numbers them and puts them on disk, pending with each of `sinks`; one that is there already is left alone."""

        def work(database: sqlite3.Connection) -> None:
            row = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'message'").fetchone()
            sequence, now_ms = (row[0] if row else 0), _now_ms()
            for event in events:
                sequence += 1
                body = encode(
                    msgspec.structs.replace(event, data=msgspec.structs.replace(event.data, sequence=sequence))
                )
                added = database.execute(
                    "INSERT OR IGNORE INTO message VALUES (?, ?, ?, ?, ?, ?)",
                    (sequence, event.id, event.data.event, event.type, body, now_ms),
                ).rowcount
                if not added:
                    sequence -= 1
                    continue
                database.executemany(
                    "INSERT INTO delivery (sink, sequence, state, since_ms) VALUES (?, ?, 'pending', ?)",
                    [(sink, sequence, now_ms) for sink in sinks],
                )

        self._write(work, spare=0)

    def pending(self, sink: str, limit: int, after: int = 0) -> list[Message]:
        """The oldest that `sink` has not had, of those behind the sequence `after`."""
        rows = self._read(
            f"SELECT {MESSAGE} FROM delivery JOIN message USING (sequence)"
            " WHERE sink = ? AND state = 'pending' AND sequence > ? ORDER BY sequence LIMIT ?",
            (sink, after, limit),
        )
        return [Message(*row) for row in rows]

    def mark(self, sink: str, sequences: Sequence[int], state: State, error: str = "") -> None:
        """Pending ones become delivered or dead, or stay pending with one attempt more."""
        rows = [(state, error, _now_ms(), sink, sequence) for sequence in sequences]
        self._write(
            lambda database: database.executemany(
                "UPDATE delivery SET state = ?, attempts = attempts + 1, error = ?, since_ms = ?"
                " WHERE sink = ? AND sequence = ? AND state = 'pending'",
                rows,
            )
        )

    def expire(self, before_ms: int) -> int:
        """What is pending since before then, with whatever sink, is dead. Returns how many."""
        return self._write(
            lambda database: (
                database.execute(
                    "UPDATE delivery SET state = 'dead', error = CASE error WHEN '' THEN 'never tried' ELSE error END,"
                    " since_ms = ? WHERE state = 'pending' AND sequence IN"
                    " (SELECT sequence FROM message WHERE written_ms < ?)",
                    (_now_ms(), before_ms),
                ).rowcount
            )
        )

    def purge(self, before_ms: int, dead: bool = False) -> int:
        """Forget events that ended before then and that every sink has had, or, with `dead`, will never have: the
        oldest, FORGOTTEN messages at most. Returns how many."""
        kept = "('pending')" if dead else "('pending', 'dead')"
        gone = (
            "SELECT sequence FROM message AS m WHERE written_ms < ?"
            f" AND NOT EXISTS (SELECT 1 FROM delivery AS d WHERE d.sequence = m.sequence AND d.state IN {kept})"
            " AND EXISTS (SELECT 1 FROM message AS e WHERE e.event = m.event AND e.type = ? AND e.written_ms < ?)"
            " ORDER BY written_ms LIMIT ?"
        )

        def work(database: sqlite3.Connection) -> int:
            sequences = database.execute(gone, (before_ms, ENDED, before_ms, FORGOTTEN)).fetchall()
            database.executemany("DELETE FROM delivery WHERE sequence = ?", sequences)
            database.executemany("DELETE FROM message WHERE sequence = ?", sequences)
            return len(sequences)

        return self._write(work)

    def unended(self) -> list[Event]:
        """The started messages of events that have no ended one. Of one that cannot be read, notify is told."""
        rows = self._read(
            f"SELECT {MESSAGE} FROM message AS m WHERE type = ? AND NOT EXISTS"
            " (SELECT 1 FROM message AS e WHERE e.event = m.event AND e.type = ?) ORDER BY sequence",
            (STARTED, ENDED),
        )
        events = [self._event(Message(*row)) for row in rows]
        return [event for event in events if event is not None]

    def _event(self, message: Message) -> Event | None:
        try:
            return message.event
        except Rejected as error:
            self._notify(f"{error.message}; its event stays without an end")
            return None

    def clock_set(self, by_ms: int, now_ms: int) -> None:
        """The wall clock was set, `by_ms` forward (or back), to now_ms: what was written before keeps its age.
        A board without a clock of its own starts in the past, and is told the time by the network."""
        if by_ms > 0:
            query, values = "written_ms = written_ms + ? WHERE written_ms <= ?", (by_ms, now_ms - by_ms // 2)
        else:
            query, values = "written_ms = ? WHERE written_ms > ?", (now_ms, now_ms)
        self._write(lambda database: database.execute(f"UPDATE message SET {query}", values))

    def retry(self, event: str | None = None) -> int:
        """Dead ones are pending again: all, or those of one event or message id. The stated time begins anew."""

        def work(database: sqlite3.Connection) -> int:
            rows = database.execute(
                "SELECT DISTINCT sequence FROM delivery JOIN message USING (sequence) WHERE state = 'dead'"
                " AND (? IS NULL OR event = ? OR id = ?)",
                (event, event, event),
            ).fetchall()
            database.executemany(
                "UPDATE message SET written_ms = ? WHERE sequence = ?", [(_now_ms(), n) for (n,) in rows]
            )
            return sum(
                database.execute(
                    "UPDATE delivery SET state = 'pending', since_ms = ? WHERE sequence = ? AND state = 'dead'",
                    (_now_ms(), sequence),
                ).rowcount
                for (sequence,) in rows
            )

        return self._write(work)

    def depths(self) -> dict[tuple[str, State], int]:
        """Messages by sink and state."""
        rows = self._read("SELECT sink, state, COUNT(*) FROM delivery GROUP BY sink, state")
        return {(sink, state): count for sink, state, count in rows}

    def listed(self, limit: int, event: str | None = None, dead: bool = False) -> list[tuple[Message, list[Delivered]]]:
        """The newest messages, oldest first: all, those of one event or message id, or those dead with some sink."""
        rows = self._read(
            f"SELECT {MESSAGE} FROM message AS m WHERE (? IS NULL OR event = ? OR id = ?) AND"
            " (NOT ? OR EXISTS (SELECT 1 FROM delivery AS d WHERE d.sequence = m.sequence AND d.state = 'dead'))"
            " ORDER BY sequence DESC LIMIT ?",
            (event, event, event, dead, min(limit, MOST_ROWS)),
        )
        about = "SELECT sink, state, attempts, error, since_ms FROM delivery WHERE sequence = ? ORDER BY sink"
        messages = [Message(*row) for row in reversed(rows)]
        return [(one, [Delivered(*row) for row in self._read(about, (one.sequence,))]) for one in messages]

    # -- the file ------------------------------------------------------------------------------------------------------

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._connected()
        except sqlite3.DatabaseError as error:
            if any(word in str(error) for word in PASSING):
                raise EdgeclipError(
                    f"cannot open the outbox {self._path}: {error}",
                    "make room on its disk; then try again",
                    UNAVAILABLE,
                ) from error
            if not _is_damage(error):
                raise ConfigError(
                    f"cannot open the outbox {self._path}: {error}", "check its owner, its permissions and its disk"
                ) from error
            self._put_aside(error)
            return self._connected()

    def _connected(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute(f"PRAGMA cache_size = -{CACHE_KB}")
            (sound,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if sound != "ok":
                raise sqlite3.DatabaseError(f"malformed: {sound}")
            database.executescript(SCHEMA)
        except BaseException:
            database.close()
            raise
        return database

    def _put_aside(self, error: sqlite3.Error) -> None:
        if not self._mends:
            raise DataError(
                f"the outbox {self._path} is damaged: {error}", "the next run puts it aside and begins a new one"
            ) from error
        aside = self._path.with_name(f"{self._path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}")
        for suffix in ("", "-wal", "-shm"):
            file = Path(f"{self._path}{suffix}")
            if file.exists():
                os.replace(file, f"{aside}{suffix}")
        for old in sorted(self._path.parent.glob(f"{self._path.name}.damaged-*"), key=_modified)[: -3 * KEPT_ASIDE]:
            old.unlink(missing_ok=True)
        self._notify(f"the outbox {self._path} is damaged ({error}): put aside as {aside}, a new one is begun")

    @property
    def _open(self) -> sqlite3.Connection:
        """The connection; made anew where a damaged file was given up and no room was there for another."""
        if self._database is None and not self._closed:
            self._database = self._connected()
        if self._database is None:
            raise sqlite3.ProgrammingError("the outbox is closed")
        return self._database

    @contextmanager
    def _transaction(self, spare: int) -> Iterator[sqlite3.Connection]:
        database = self._open
        database.execute(f"PRAGMA max_page_count = {self.max_pages + spare}")
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    def _write(self, work: Callable[[sqlite3.Connection], T], spare: int = SPARE_PAGES) -> T:
        """work, in one transaction; once more, on a new file, where this one turns out to be damaged."""
        with self._lock:
            try:
                with self._transaction(spare) as database:
                    return work(database)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._give_up(error)
                with self._transaction(spare) as database:
                    return work(database)

    def _read(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        with self._lock:
            try:
                return self._open.execute(query, values).fetchall()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._give_up(error)
                return self._open.execute(query, values).fetchall()

    def _give_up(self, error: sqlite3.Error) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        self._put_aside(error)


@contextmanager
def existing_outbox(state: Path) -> Iterator[Outbox]:
    """The outbox in a state directory, beside a run that may be using it; what is damaged is left to that run.

    Raises ConfigError where there is none, DataError where it is damaged, EdgeclipError (UNAVAILABLE) where it stays
    locked or the disk is full.
    """
    path = state / OUTBOX
    if not path.is_file():
        raise ConfigError(
            f"no outbox in {state}: no run with --watch and a sink of events was there", "name --state DIR"
        )
    try:
        with closing(Outbox(path, mends=False)) as outbox:
            yield outbox
    except sqlite3.Error as error:
        raise EdgeclipError(
            f"the outbox {path}: {error}", "try again; where the disk is full, make room", UNAVAILABLE
        ) from error


def _is_damage(error: sqlite3.Error) -> bool:
    return any(word in str(error) for word in DAMAGED)


def _modified(path: Path) -> float:
    return path.stat().st_mtime


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
