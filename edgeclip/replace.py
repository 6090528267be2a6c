"""A bundle written beside its place is put into it: the old one or the new one is there, never half of either."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from edgeclip.atomic import atomic_write, reachable, sync_directory
from edgeclip.bundle import CHECKSUMS, MANIFEST
from edgeclip.container import Container, open_container
from edgeclip.errors import ConfigError, UsageError, reason_of

CARD = "README.md"  # a model card that lies in the bundle's place is carried over


def require_replaceable(out: Path) -> None:
    """Raises UsageError where `out` holds something that is not a bundle: it would be lost."""
    if out.suffix == ".tar" or not out.exists():
        if out.is_dir():
            raise UsageError(f"{out} is a directory", "give another --out, or remove it")
        return
    if not out.is_dir():
        raise UsageError(f"{out} exists and is not a bundle directory", "give another --out")
    others = [entry.name for entry in out.iterdir() if entry.name != CARD]
    missing = [name for name in (MANIFEST, CHECKSUMS) if name not in others]
    if others and missing:
        raise UsageError(f"{out} holds {sorted(others)[0]} and no {missing[0]}: not a bundle", "give another --out")


def require_writable(out: Path) -> None:
    """Raises ConfigError where the directory that is to hold `out`, or the one it would be made in, takes no file: told
    before a build's minutes of work."""
    place = reachable(out.absolute().parent)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=place):
            return
    except OSError as error:
        raise ConfigError(f"{place} takes no bundle: {reason_of(error)}", "give another --out") from error


def replace_bundle(fresh: Path, out: Path, aside: Path) -> bool:
    """Move the bundle directory `fresh` to `out`, a directory or a .tar. False where the same bundle is there already.

    aside: where the old directory goes meanwhile, on the same file system.
    """
    if out.suffix == ".tar":
        return write_archive(open_container(fresh), out)
    return replace_directory(fresh, out, aside)


def replace_directory(fresh: Path, out: Path, aside: Path) -> bool:
    sums = out / CHECKSUMS
    if sums.is_file() and sums.read_bytes() == (fresh / CHECKSUMS).read_bytes():
        return False
    for path in fresh.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    fresh.chmod(0o755)
    if out.exists():
        os.rename(out, aside)
    try:
        os.rename(fresh, out)
    except OSError:
        if aside.exists():
            os.rename(aside, out)
        raise
    sync_directory(out.parent)
    return True


def write_archive(source: Container, out: Path, more: Mapping[str, bytes] | None = None) -> bool:
    """One level of plain files, without times or owners: the same bundle is the same archive.

    more: files besides, by name; they replace those of `source`. False where `out` is the same already.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out.parent) as plain:
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name in sorted({*source.files, *(more or {})}):
                content = more[name] if more and name in more else None
                member = tarfile.TarInfo(name)
                member.size = source.files[name] if content is None else len(content)
                member.mode = 0o644
                tar.addfile(member, io.BytesIO(content) if content is not None else _Joined(source.blocks(name)))
        plain.seek(0)
        if out.is_file() and _same(plain, out):
            return False
        plain.seek(0)
        with atomic_write(out) as target:
            shutil.copyfileobj(plain, target, 1 << 20)
    return True


def _same(stream: IO[bytes], path: Path) -> bool:
    with path.open("rb") as other:
        while block := stream.read(1 << 20):
            if other.read(1 << 20) != block:
                return False
        return not other.read(1)


class _Joined(io.RawIOBase):
    """Pieces as a stream, as tarfile reads one."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest += piece
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken
