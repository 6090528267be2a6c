"""The thresholds that `edgeclip tune` found, beside the watches they were found for: watches.thresholds.json.

They are bound to what they were measured with: to each watch's digest, and to the embedding space.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edgeclip.atomic import atomic_write
from edgeclip.errors import DataError

SCHEMA = 1
Probability = Annotated[float, Meta(gt=0.0, lt=1.0)]


class Tuned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One watch's thresholds. digest: WatchFile.digest() of it then; evidence: what they rest on, for people."""

    digest: str
    enter: Probability
    leave: Probability
    evidence: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.leave >= self.enter:
            raise ValueError("`leave` must be below `enter`")


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """space: the embedding space id of the bundle. watches: by name."""

    space: str
    watches: dict[str, Tuned]
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"schema {self.schema}, and this edgeclip reads {SCHEMA}")


def thresholds_path(watches: str | os.PathLike[str]) -> Path:
    """Where the thresholds of a watches file lie: watches.yaml -> watches.thresholds.json."""
    return Path(watches).with_suffix(".thresholds.json")


def read_thresholds(path: str | os.PathLike[str]) -> Thresholds | None:
    """None where there is no such file. Raises DataError for one that is damaged."""
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Thresholds)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}", "remove the file, or let `edgeclip tune` write it again") from error


def write_thresholds(path: str | os.PathLike[str], thresholds: Thresholds) -> None:
    """Written beside its place and renamed."""
    with atomic_write(Path(path)) as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(thresholds), indent=2) + b"\n")
