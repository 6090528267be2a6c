"""What a bundle comes in, a directory or a .tar: plain files by name, all checked before the first is written anywhere.

The archive reader takes POSIX.1-1988 ustar (and what GNU tar writes for short names) and nothing of the later
extensions: no links, devices, sparse files, long names, pax records or binary sizes, all of which tarfile honours.
"""

from __future__ import annotations

import os
import re
import stat
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from edgeclip.errors import DataError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MAX_FILES = 256
MAX_BYTES = 4 << 30  # of all files together
PIECE = 1 << 20
BLOCK = 512
KINDS = {
    b"1": "a hard link",
    b"2": "a link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a directory",
    b"6": "a fifo",
    b"S": "a sparse file",
    b"x": "a pax record",
    b"g": "a pax record",
    b"L": "a long name",
    b"K": "a long name",
}
PACK = "a bundle is plain files at one level: pack it with `edgeclip bundle export`, or `tar --format=ustar`"


class Container(Protocol):
    """files: their sizes in bytes, by name. blocks(name): the content, piece by piece."""

    origin: str

    @property
    def files(self) -> Mapping[str, int]: ...
    def blocks(self, name: str) -> Iterator[bytes]: ...


def open_container(path: Path, origin: str = "") -> Container:
    """Raises DataError where `path` is neither a directory nor an archive of plain files, or holds too much."""
    return Directory(path, origin or str(path)) if path.is_dir() else Archive(path, origin or str(path))


def content(container: Container, name: str, limit: int) -> bytes:
    """All of a file. Raises DataError where it is larger than `limit` bytes."""
    if container.files[name] > limit:
        raise DataError(f"{container.origin}: {name} is larger than {limit} bytes", "this is not an edgeclip bundle")
    return b"".join(container.blocks(name))


class Directory:
    def __init__(self, path: Path, origin: str) -> None:
        self.origin = origin
        self.files: dict[str, int] = {}
        self._path = path
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            if not entry.is_file(follow_symlinks=False):
                raise DataError(f"bundle {origin}: {entry.name!r} is not a plain file", "remove it, or copy again")
            _admit(self, entry.name, entry.stat(follow_symlinks=False).st_size)

    def blocks(self, name: str) -> Iterator[bytes]:
        with os.fdopen(os.open(self._path / name, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
            while piece := stream.read(PIECE):
                yield piece


class Archive:
    """Held open: what was checked is what is read."""

    def __init__(self, path: Path, origin: str) -> None:
        self.origin = origin
        self.files: dict[str, int] = {}
        self._offsets: dict[str, int] = {}
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self._fd)
            found = os.fstat(self._fd)
            if not stat.S_ISREG(found.st_mode):
                raise DataError(f"{origin} is no file", "give a bundle directory or .tar")
            self._bytes = found.st_size
            self._read_headers()
        except OSError as error:
            raise DataError(f"{origin} cannot be read: {error.strerror}", "check the path") from error

    def blocks(self, name: str) -> Iterator[bytes]:
        offset, end = self._offsets[name], self._offsets[name] + self.files[name]
        while offset < end:
            piece = os.pread(self._fd, min(PIECE, end - offset), offset)
            if not piece:
                raise DataError(f"{self.origin} breaks off inside {name}", "copy it again")
            offset += len(piece)
            yield piece

    def _read_headers(self) -> None:
        offset = 0
        while any(header := self._block(offset)):
            size = self._member(header, offset + BLOCK)
            end = offset + BLOCK + size
            offset = end + -size % BLOCK
            if offset > self._bytes:
                raise DataError(f"{self.origin} breaks off", "the archive is cut short: copy it again")
            if any(os.pread(self._fd, offset - end, end)):
                raise self._refused("something hidden between its files")
        self._block(offset + BLOCK)
        for rest in range(offset, self._bytes, PIECE):  # the end mark, and what fills the last record
            if any(os.pread(self._fd, PIECE, rest)):
                raise self._refused("something behind its end mark")

    def _block(self, offset: int) -> bytes:
        block = os.pread(self._fd, BLOCK, offset)
        if len(block) < BLOCK:
            if offset == 0:
                raise DataError(f"{self.origin} is not a readable bundle archive", "give a bundle directory or .tar")
            raise DataError(f"{self.origin} breaks off before its end mark", "the archive is cut short: copy it again")
        return block

    def _member(self, header: bytes, content_at: int) -> int:
        """Takes the member in; its size."""
        if header[257:262] != b"ustar":
            raise DataError(
                f"{self.origin} is not a readable bundle archive", "give a directory or an uncompressed .tar in ustar"
            )
        plain = header[:148] + b" " * 8 + header[156:]
        name, linked, prefix = _text(header[:100]), _text(header[157:257]), _text(header[345:500])
        if _octal(header[148:156]) != sum(plain):
            raise DataError(f"{self.origin}: a header does not match its checksum", "it is damaged: copy it again")
        size = _octal(header[124:136])
        kind = header[156:157]
        if kind == b"5" and name in (b"./", b".") and size == 0 and not prefix:
            return 0
        if kind not in (b"0", b"\0") or linked or prefix or size is None:
            what = KINDS.get(kind, "an entry of an unknown kind" if kind not in (b"0", b"\0") else "a name or size")
            raise self._refused(f"{what} ({name[:60].decode('ascii', 'backslashreplace')!r})")
        text = name.removeprefix(b"./").decode("ascii", "backslashreplace")
        _admit(self, text, size)
        self._offsets[text] = content_at
        return size

    def _refused(self, what: str) -> DataError:
        return DataError(f"{self.origin} holds {what}: refused", PACK)


def _admit(container: Directory | Archive, name: str, size: int) -> None:
    """Takes a file in, or raises DataError."""
    files, origin = container.files, container.origin
    if not NAME.fullmatch(name):
        raise DataError(f"bundle {origin}: {name[:140]!r} is no name of a file in a bundle", PACK)
    if name.casefold() in {known.casefold() for known in files}:
        raise DataError(f"bundle {origin}: {name} is there twice", PACK)
    files[name] = size
    if len(files) > MAX_FILES or sum(files.values()) > MAX_BYTES:
        raise DataError(
            f"bundle {origin}: more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB", "this is not an edgeclip bundle"
        )


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _octal(field: bytes) -> int | None:
    """None where it is no octal number: GNU's binary sizes begin with 0x80."""
    digits = field.rstrip(b"\0 ").lstrip(b" ")
    return int(digits, 8) if re.fullmatch(rb"[0-7]{1,12}", digits) else None
