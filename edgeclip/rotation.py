"""A file of lines within bounds, `PATH?max_mb=10&keep=5`: at max_mb PATH becomes PATH.1, PATH.1 becomes PATH.2, and so
on; what would be PATH.(keep + 1) is removed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from edgeclip.errors import UsageError

KEEP = 5


@dataclass(frozen=True)
class Rotation:
    """max_bytes: of PATH itself, infinite where it is not bounded."""

    path: Path
    max_bytes: float
    keep: int

    def rotate(self) -> None:
        """The file at `path` makes way for a new one. Raises OSError."""
        names = [self.path, *(Path(f"{self.path}.{number}") for number in range(1, self.keep + 1))]
        names[-1].unlink(missing_ok=True)
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if newer.exists():
                os.replace(newer, older)


def read_rotation(uri: str, max_mb: float) -> Rotation:
    """uri: SCHEME:PATH, with options or without. max_mb: where it names none. Raises UsageError."""
    scheme, _, rest = uri.partition(":")
    target, _, query = rest.partition("?")
    if not target:
        raise UsageError(f"--sink {scheme}:: the path is missing", f"write {scheme}:PATH")
    given = dict(parse_qsl(query, keep_blank_values=True))
    try:
        megabytes, keep = float(given.pop("max_mb", max_mb)), int(given.pop("keep", KEEP))
    except ValueError:
        megabytes, keep = 0.0, KEEP
    if given or not megabytes > 0 or keep < 0:
        raise UsageError(f"--sink {uri}: its options are wrong", f"write {scheme}:{target}?max_mb=10&keep={KEEP}")
    return Rotation(Path(target), megabytes * 1e6, keep)
