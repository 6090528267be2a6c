"""Resumable steps: each fills a directory, stamped with what it was made from, and is skipped while that holds."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from edgeclip.atomic import sync_directory
from edgeclip.bundle import sha256
from edgeclip.errors import UsageError
from edgeclip.progress import Progress

STAMP = "stamp.json"


class Stamp(msgspec.Struct, frozen=True):
    """inputs: digest of everything the step depends on. outputs: digest of every file it wrote."""

    inputs: str
    outputs: dict[str, str]
    seconds: float


class Steps:
    """The steps of one build in one work directory.

    skipped: names of those that were already done. made: by name, the digest of every file that a step left.
    """

    def __init__(self, work: Path, progress: Progress) -> None:
        self.work = work
        self.progress = progress
        self.skipped: list[str] = []
        self.seconds: dict[str, float] = {}
        self.made: dict[str, dict[str, str]] = {}

    def run(self, name: str, inputs: dict[str, Any], total: int | None, make: Callable[[Path], object]) -> Path:
        """Have `make(directory)` fill work/name, unless the same inputs already did. Returns that directory.

        It is written beside and renamed: a build killed half-way leaves the step undone, never half done.
        """
        directory = self.work / name
        key = hashlib.sha256(msgspec.json.encode(inputs, order="sorted")).hexdigest()
        self.progress.stage(name, total)
        stamp = valid_stamp(directory, key)
        if stamp is not None:
            self.progress.note(f"{name} is up to date, skipped")
            self.skipped.append(name)
            self.seconds[name], self.made[name] = stamp.seconds, stamp.outputs
            self.progress.done()
            return directory
        part = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".part", dir=self.work))
        part.chmod(0o755)
        began_s = time.monotonic()
        try:
            make(part)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        took_s = time.monotonic() - began_s
        outputs = {path.name: sha256(path) for path in sorted(part.iterdir())}
        (part / STAMP).write_bytes(msgspec.json.encode(Stamp(key, outputs, took_s)))
        shutil.rmtree(directory, ignore_errors=True)
        os.rename(part, directory)
        sync_directory(self.work)
        self.seconds[name], self.made[name] = took_s, outputs
        self.progress.done()
        return directory


def valid_stamp(directory: Path, key: str) -> Stamp | None:
    """The step's stamp, if it was made from these inputs and its files are still what it wrote."""
    try:
        stamp = msgspec.json.decode((directory / STAMP).read_bytes(), type=Stamp)
    except (OSError, msgspec.DecodeError):
        return None
    if stamp.inputs != key:
        return None
    for name, digest in stamp.outputs.items():
        path = directory / name
        if not path.is_file() or sha256(path) != digest:
            return None
    return stamp


@contextmanager
def exclusive(work: Path) -> Iterator[None]:
    """One build at a time in a work directory. Raises UsageError where another holds it."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another build is running in {work}", "wait for it, or give another --work") from error
        for left in work.glob(".*.part"):  # by a build that was killed
            shutil.rmtree(left, ignore_errors=True)
        yield


def digest_of_path(path: Path) -> str:
    """A digest of a file, or of every file under a directory with its name."""
    if path.is_file():
        return sha256(path)
    digest = hashlib.sha256()
    for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
        digest.update(f"{file.relative_to(path)} {sha256(file)}\n".encode())
    return digest.hexdigest()
