"""Archives of data, .tar and .tar.gz, read as streams: never unpacked, and refused where they are cut short."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from edgeclip.errors import DataError, reason_of

ARCHIVES = (".tar", ".tar.gz", ".tgz")


def is_archive(path: Path) -> bool:
    """By suffix, and not a directory."""
    return path.name.lower().endswith(ARCHIVES) and not path.is_dir()


def archived_files(archive: Path, limit_bytes: Callable[[str], int]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the files in `archive`, in their order, that limit_bytes(name) wants: 0 passes a file over.

    Raises DataError, naming the archive, where it is damaged, ends before its end mark, or where a file that is wanted
    is a link or a device, or larger than its limit.
    """
    try:
        with _opened(archive) as plain:
            stream = _Remembering(plain)
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    limit = 0 if member.isdir() else limit_bytes(member.name)
                    if limit:
                        yield member.name, _content(tar, member, limit, archive)
            # tarfile takes an archive that was cut between or inside members for a shorter one.
            while stream.read(1 << 16):
                pass
            if any(stream.tail):
                raise DataError(f"{archive} ends before its end mark", "the archive is cut short: copy it again")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: {error}", "the archive is damaged: copy it again") from error
    except OSError as error:
        raise DataError(f"{archive}: {reason_of(error)}", "check the path, or copy the archive again") from error


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, limit: int, archive: Path) -> bytes:
    if member.size > limit:
        raise DataError(f"{archive}: {member.name} is larger than {limit >> 20} MiB", "make it smaller")
    stream = tar.extractfile(member) if member.isfile() else None
    if stream is None:
        raise DataError(f"{archive}: {member.name} is a link or a device", "pack real files")
    return stream.read()


def _opened(archive: Path) -> IO[bytes]:
    """Unzipped by hand: tarfile does not notice the end of the file inside a zipped member."""
    with archive.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(archive, "rb")) if zipped else archive.open("rb")


class _Remembering(io.BufferedIOBase):
    """A stream that keeps the last two blocks it gave; the end mark of an archive is two blocks of zeros."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.tail = b""

    def read(self, size: int | None = -1) -> bytes:
        data = self._stream.read(-1 if size is None else size)
        self.tail = (self.tail + data)[-2 * tarfile.BLOCKSIZE :]
        return data
