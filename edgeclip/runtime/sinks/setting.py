"""What a sink may know about the run it serves, beyond the decisions themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True, slots=True)
class Setting:
    """stdout: the stream for people or for JSON lines. bundle, engine: names to show.

    fps: the source's nominal rate, or None. live: a camera or stream, as opposed to files.
    """

    stdout: TextIO
    bundle: str
    engine: str
    fps: float | None
    live: bool
