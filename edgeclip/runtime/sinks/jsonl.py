"""One JSON object a line, one line a frame, none lost: flushed before the next frame is decided.

    {"time": "2026-08-01T12:00:00.123Z", "source": "demo", "frame": 41, "captured_ns": 812345678901, "age_ms": 12.3,
     "label": "cat", "score": 0.91, "scores": {"cat": 0.91, "dog": 0.04}, "drops": 0, "fps": 19.8, "unknown": 0.002,
     "watches": {"door open": {"probability": 0.93, "on": true}},
     "changes": [{"watch": "door open", "on": true, "peak": 0.93, "reason": ""}]}

`captured_ns` is the monotonic clock, `time` the wall clock, both of the capture. `scores` holds the labels that
--top asked for, best first. `fps` is null until it is known. `label` is "unknown" where `unknown`, the probability
that the frame shows none of the labels, is 0.5 or more, and then `score` is that; null where there are no labels.
`picture`, the path of the frame's file, is there where the source is a folder or a pattern of pictures, `watches` where
there is a watches file, `changes` where one began or ended with this frame.
"""

from __future__ import annotations

import errno
import math
import os
from datetime import datetime, timezone
from io import FileIO
from pathlib import Path
from typing import IO, Any

import msgspec

from edgeclip.errors import UNAVAILABLE, ConfigError, EdgeclipError
from edgeclip.rotation import read_rotation
from edgeclip.runtime.sinks.setting import Setting
from edgeclip.types import Decision, Frame

_encode = msgspec.json.Encoder().encode


def to_line(decision: Decision) -> bytes:
    """UTF-8, with the newline."""
    names, scores = decision.names, decision.scores.tolist()
    record: dict[str, Any] = {
        "time": utc(decision.wall_ns),
        "source": decision.source,
        "frame": decision.frame_index,
        "captured_ns": decision.captured_ns,
        "age_ms": round(decision.age_ns / 1e6, 3),
        "label": decision.label or None,
        "score": round(decision.score, 6),
        "scores": {names[index]: round(scores[index], 6) for index in decision.order},
        "drops": decision.drops,
        "fps": round(decision.fps, 2) or None,
        "unknown": round(decision.unknown, 6),
    }
    if decision.picture:
        record["picture"] = decision.picture
    if decision.watches:
        record["watches"] = {
            watch.name: {"probability": round(watch.probability, 6), "on": watch.on} for watch in decision.watches
        }
    if decision.changes:
        record["changes"] = [
            {"watch": change.watch, "on": change.on, "peak": round(change.peak, 6), "reason": change.reason}
            for change in decision.changes
        ]
    return _encode(record) + b"\n"


def utc(wall_ns: int) -> str:
    """ISO 8601, UTC, to the millisecond."""
    moment = datetime.fromtimestamp(wall_ns // 1_000_000_000, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{wall_ns // 1_000_000 % 1000:03d}Z"


class Jsonl:
    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def open(self) -> None:
        return

    def write(self, decision: Decision, frame: Frame) -> None:
        if decision.closing:
            return
        self._stream.write(to_line(decision))
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


class JsonlFile:
    """Appends: a restarted service continues its file, and ends half a line, which a power cut left, first.

    `PATH?max_mb=100&keep=5` bounds it.
    """

    def __init__(self, target: str) -> None:
        self._rotation = read_rotation(f"jsonl:{target}", math.inf)
        self._path = self._rotation.path
        self._stream: FileIO | None = None
        self._bytes = 0

    def open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._path.open("ab", buffering=0)
            self._bytes = os.fstat(self._stream.fileno()).st_size
        except OSError as error:
            raise ConfigError(
                f"cannot write {self._path}: {error.strerror}", "name a place you may write to"
            ) from error
        if _breaks_off(self._path):
            self._put(b"\n")

    def write(self, decision: Decision, frame: Frame) -> None:
        if not decision.closing:
            self._put(to_line(decision))

    def _put(self, data: bytes) -> None:
        if self._stream is None:
            raise RuntimeError("write() before open()")
        try:
            if self._bytes and self._bytes + len(data) > self._rotation.max_bytes:
                self._stream.close()
                self._rotation.rotate()
                self.open()
            written = self._stream.write(data)
        except OSError as error:
            raise _no_room(self._path, error.strerror) from error
        if written != len(data):
            raise _no_room(self._path, "no room for a whole line") from OSError(errno.ENOSPC, "cut short")
        self._bytes += written

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _breaks_off(path: Path) -> bool:
    """Whether the last line of a file has no end. A pipe is no file."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"


def _no_room(path: Path, reason: str | None) -> EdgeclipError:
    """Passes, where somebody makes room: a service is started again."""
    return EdgeclipError(f"cannot write {path}: {reason}", "make room, then start again", exit_code=UNAVAILABLE)


def to_stdout(target: str, setting: Setting) -> Jsonl:
    return Jsonl(setting.stdout.buffer)


def to_file(target: str, setting: Setting) -> JsonlFile:
    return JsonlFile(target)
