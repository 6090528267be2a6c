"""Events as JSON lines, fsynced before they count as delivered. `jsonl:PATH?max_mb=10&keep=5`.

At max_mb the file becomes PATH.1, PATH.1 becomes PATH.2, and so on; what would be PATH.(keep + 1) is removed. A line
that a power cut left half written is taken away at the next start: its message comes again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from edgeclip.atomic import sync_directory
from edgeclip.events.deliveries import Setting
from edgeclip.events.delivery import Message, Unreachable
from edgeclip.rotation import read_rotation

MAX_MB = 10.0


class JsonlFile:
    def __init__(self, uri: str, setting: Setting) -> None:
        asked = read_rotation(uri, MAX_MB)
        self._rotation = replace(asked, path=asked.path.absolute())
        self._path = self._rotation.path
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
            if os.fstat(self._handle).st_size + len(lines) > self._rotation.max_bytes:
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
        self._rotation.rotate()
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
