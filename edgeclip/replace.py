"""A bundle written beside its place is put into it: the old one or the new one is there, never half of either."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from edgeclip.atomic import atomic_write, sync_directory
from edgeclip.bundle import CHECKSUMS, MANIFEST
from edgeclip.errors import UsageError

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
    if others and MANIFEST not in others:
        raise UsageError(f"{out} holds {sorted(others)[0]} and no {MANIFEST}: not a bundle", "give another --out")


def replace_bundle(fresh: Path, out: Path, aside: Path) -> bool:
    """Move the bundle directory `fresh` to `out`, a directory or a .tar. False where the same bundle is there already.

    aside: where the old directory goes meanwhile, on the same file system.
    """
    if out.suffix == ".tar":
        return write_archive(fresh, out)
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


def write_archive(fresh: Path, out: Path) -> bool:
    """One level of plain files, without times or owners: the same bundle is the same archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(fresh.iterdir()):
            member = tarfile.TarInfo(path.name)
            member.size = path.stat().st_size
            member.mode = 0o644
            with path.open("rb") as data:
                tar.addfile(member, data)
    if out.is_file() and out.read_bytes() == stream.getvalue():
        return False
    with atomic_write(out) as target:
        target.write(stream.getvalue())
    return True
