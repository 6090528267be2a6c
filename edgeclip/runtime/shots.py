"""Taught shots on disk: of each embedding space one file in the state directory, replaced whole.

    taught/<first 16 digits of the space id>.npz
        facts        a JSON list of Shot, as bytes; and the space's whole id
        embeddings   [N, D] float32, unit vectors
        thumbnails   the JPEGs of all, one after the other; ends: [N] where each ends

Embeddings of another space mean nothing here, and a file that says another space than its bundle's is refused.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from edgeclip.atomic import atomic_write
from edgeclip.errors import DataError
from edgeclip.npz import read_npz
from edgeclip.types import Embeddings

FOLDER = "taught"
AGAIN = "take the file away and teach the labels again"


class Shot(msgspec.Struct, frozen=True):
    """One taught picture.

    id: a digest of it as the image engine sees it, so that the same picture has the same. origin: its file, or the
    source and the frame's number. added: ISO 8601, UTC. left_out: why it does not count, "" where it does.
    """

    id: str
    label: str
    origin: str
    added: str
    left_out: str = ""


@dataclass(frozen=True)
class Shots:
    """N shots of one embedding space. embeddings: [N, D] float32, unit vectors."""

    shots: tuple[Shot, ...]
    embeddings: Embeddings = field(compare=False)
    space: str

    def of(self, keep: Sequence[int]) -> Shots:
        return Shots(tuple(self.shots[row] for row in keep), self.embeddings[list(keep)], self.space)


def shots_path(state: Path, space: str) -> Path:
    return state / FOLDER / f"{space.removeprefix('sha256:')[:16]}.npz"


def read_shots(path: Path, space: str, dim: int) -> Shots:
    """What was taught; nothing where there is no file. Raises DataError for a damaged file, or another space's."""
    if not path.exists():
        return Shots((), np.empty((0, dim), np.float32), space)
    try:
        told_facts, embeddings = read_npz(path, "facts", "embeddings")
        facts = json.loads(told_facts.tobytes())
        shots = msgspec.convert(facts["shots"], tuple[Shot, ...])
        told = str(facts["space"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, msgspec.ValidationError) as error:
        raise DataError(f"{path} holds no taught shots: {error}", AGAIN) from error
    if told != space:
        raise DataError(f"{path} was taught to another model (space {told})", AGAIN)
    well = embeddings.dtype == np.float32 and embeddings.shape == (len(shots), dim) and np.isfinite(embeddings).all()
    if not well or (len(shots) and (np.abs(np.linalg.norm(embeddings, axis=1) - 1.0) > 1e-2).any()):
        raise DataError(f"{path} is damaged: no {len(shots)} unit vectors of {dim} numbers", AGAIN)
    return Shots(shots, embeddings, space)


def read_thumbnails(path: Path, count: int) -> list[bytes]:
    """A JPEG for each of the `count` shots of the file, in its order. Raises DataError for a damaged file."""
    if not count:
        return []
    try:
        thumbnails, ends = read_npz(path, "thumbnails", "ends")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} holds no pictures of its shots: {error}", AGAIN) from error
    if thumbnails.dtype != np.uint8 or ends.dtype != np.int64 or ends.shape != (count,):
        raise DataError(f"{path} is damaged: no pictures of its {count} shots", AGAIN)
    blob, stops = thumbnails.tobytes(), ends.tolist()
    return [blob[start:stop] for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def write_shots(path: Path, shots: Shots, thumbnails: Sequence[bytes]) -> None:
    """Replaces the file whole: a running service sees what was before, or this."""
    facts = json.dumps({"space": shots.space, "shots": msgspec.to_builtins(shots.shots)}).encode()
    with atomic_write(path) as stream:
        np.savez(
            stream,
            facts=np.frombuffer(facts, np.uint8),
            embeddings=shots.embeddings.astype(np.float32),
            thumbnails=np.frombuffer(b"".join(thumbnails), np.uint8),
            ends=np.cumsum([len(jpeg) for jpeg in thumbnails], dtype=np.int64),
        )


def taught_elsewhere(state: Path, space: str) -> dict[str, list[str]]:
    """Labels taught to other models, with the files that they were taught from."""
    found: dict[str, list[str]] = {}
    mine = shots_path(state, space)
    for path in sorted((state / FOLDER).glob("*.npz")):
        if path == mine:
            continue
        try:
            (facts,) = read_npz(path, "facts")
            shots = msgspec.convert(json.loads(facts.tobytes())["shots"], tuple[Shot, ...])
        except (OSError, ValueError, KeyError, TypeError, RecursionError, msgspec.ValidationError):
            continue  # it is not ours to judge
        for shot in shots:
            found.setdefault(shot.label, []).append(shot.origin)
    return found


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """While entered, no other edgeclip changes the file. Waits for its turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
