"""Events as JSON lines, fsynced before they count as delivered. `jsonl:PATH?max_mb=10&keep=5`.

At max_mb the file becomes PATH.1, PATH.1 becomes PATH.2, and so on; what would be PATH.(keep + 1) is removed. A line
that a power cut left half written is taken away at the next start: its message comes again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import parse_qsl

from edgeclip.atomic import sync_directory
from edgeclip.errors import UsageError
from edgeclip.events.deliveries import Setting
from edgeclip.events.delivery import Message, Unreachable

OPTIONS = ("max_mb", "keep")


class JsonlFile:
    def __init__(self, uri: str, setting: Setting) -> None:
        target, _, query = uri.removeprefix("jsonl:").partition("?")
        if not target:
            raise UsageError("--sink jsonl:: the path is missing", "write jsonl:PATH")
        given = dict(parse_qsl(query, keep_blank_values=True))
        unknown = [name for name in given if name not in OPTIONS]
        try:
            self._max_bytes = float(given.get("max_mb", "10")) * 1e6
            self._keep = int(given.get("keep", "5"))
        except ValueError:
            unknown.append("a number that is none")
        if unknown or not self._max_bytes > 0 or self._keep < 0:
            raise UsageError(f"--sink {uri}: its options are wrong", f"write jsonl:{target}?max_mb=10&keep=5")
        self._path = Path(target).absolute()
        self.name = f"jsonl:{self._path}"
        self._handle: int | None = None

    def open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._handle = handle
            _drop_half_line(handle)
            sync_directory(self._path.parent)
        except OSError as error:
            raise Unreachable(f"cannot write {self._path}: {error.strerror}") from error

    def deliver(self, messages: Sequence[Message], done: Callable[[Message], object]) -> None:
        assert self._handle is not None
        lines = b"".join(message.body + b"\n" for message in messages)
        try:
            if os.fstat(self._handle).st_size + len(lines) > self._max_bytes:
                self._rotate()
            begin = os.fstat(self._handle).st_size
            if os.write(self._handle, lines) != len(lines):
                os.ftruncate(self._handle, begin)
                raise Unreachable(f"cannot write {self._path}: no room for whole lines")
            os.fsync(self._handle)
        except OSError as error:
            raise Unreachable(f"cannot write {self._path}: {error.strerror}") from error
        for message in messages:
            done(message)

    def tend(self) -> None:
        """A file that was moved or deleted under us is begun anew."""
        assert self._handle is not None
        try:
            there = os.stat(self._path)
        except OSError:
            raise Unreachable(f"{self._path} is gone") from None
        if not os.path.samestat(there, os.fstat(self._handle)):
            raise Unreachable(f"{self._path} was replaced")

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _rotate(self) -> None:
        assert self._handle is not None
        if not os.fstat(self._handle).st_size:
            return
        names = [self._path, *(Path(f"{self._path}.{number}") for number in range(1, self._keep + 1))]
        names[-1].unlink(missing_ok=True)
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if newer.exists():
                os.replace(newer, older)
        self.close()
        self.open()


def _drop_half_line(handle: int) -> None:
    size = end = os.fstat(handle).st_size
    while end > 0:
        begin = max(0, end - 65_536)
        newline = os.pread(handle, end - begin, begin).rfind(b"\n")
        if newline >= 0:
            end = begin + newline + 1
            break
        end = begin
    if end != size:
        os.ftruncate(handle, end)
