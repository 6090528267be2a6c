"""Runs a target on one input, and writes down what happens where the parent can read it, even after a crash."""

from __future__ import annotations

import hashlib
import mmap
import os
import resource
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeclip.errors import EdgeclipError

MAX_INPUT_BYTES = 1 << 20
KEPT = 3  # reproducers of one and the same finding
FIELDS = ("began_ns", "executed", "accepted", "refused", "crashes", "stray", "length", "peak_kb")
HEADER = struct.Struct(f"{len(FIELDS)}q")

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Audit events (docs.python.org/3/library/audit_events.html): which arguments are a path, and the directory it is in.
CHANGES = {
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.utime": ((0, 3),),
    "os.truncate": ((0, None),),
    "os.setxattr": ((0, None),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
}
OUTSIDE = {"socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"}


class Record:
    """Counts and the input in work, in a file that both processes map.

    began_ns: monotonic clock when the target was given the input; 0 while none runs.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(HEADER.size + MAX_INPUT_BYTES))
        with path.open("r+b") as stream:
            self._map = mmap.mmap(stream.fileno(), 0)

    def __getitem__(self, field: str) -> int:
        return struct.unpack_from("q", self._map, 8 * FIELDS.index(field))[0]

    def __setitem__(self, field: str, value: int) -> None:
        struct.pack_into("q", self._map, 8 * FIELDS.index(field), value)

    @property
    def data(self) -> bytes:
        return self._map[HEADER.size : HEADER.size + self["length"]]

    @data.setter
    def data(self, data: bytes) -> None:
        self["length"] = len(data)
        self._map[HEADER.size : HEADER.size + len(data)] = data


class Guard:
    """Call it with inputs: each is written to `path`, and `target` called with that and the bytes.

    state: the one directory that a target may write to. out: where findings are kept.
    """

    def __init__(
        self, target: Callable[[Path, bytes], object], name: str, path: Path, record: Record, state: Path, out: Path
    ) -> None:
        self._target, self._name, self._path = target, name, path
        self._record, self._state, self._out = record, str(state), out
        self._seen: Counter[str] = Counter()
        self._armed = False
        self._strays: list[str] = []
        sys.addaudithook(self._audit)

    def __call__(self, data: bytes) -> None:
        record = self._record
        data = data[:MAX_INPUT_BYTES]
        record.data = data
        self._path.write_bytes(data)
        record["began_ns"] = time.monotonic_ns()
        self._armed = True
        try:
            self._target(self._path, data)
            outcome = "accepted"
        except EdgeclipError:
            outcome = "refused"
        except BaseException as error:  # whatever a target raises is what is looked for
            outcome = "crashes"
            self._armed = False
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._keep("crash", f"{type(error).__name__} {where.filename}:{where.lineno}", data, traceback.format_exc())
        finally:
            self._armed = False
        record["began_ns"] = 0
        record["executed"] += 1
        record[outcome] += 1
        record["peak_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if self._strays:
            record["stray"] += 1
            strays, self._strays = self._strays, []
            self._keep("stray", strays[0].partition(" ")[0], data, "\n".join(strays))

    def _keep(self, kind: str, cause: str, data: bytes, why: str) -> None:
        self._seen[cause] += 1
        if self._seen[cause] <= KEPT:
            keep(self._out, self._name, kind, data, why)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._armed:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING and not isinstance(path, int):
                self._check(event, path)
        elif event in CHANGES:
            for path, directory in CHANGES[event]:
                self._check(event, arguments[path], -1 if directory is None else arguments[directory])
        elif event in OUTSIDE:
            self._strays.append(f"{event} {arguments!r}")

    def _check(self, event: str, path: Any, directory: int = -1) -> None:
        if isinstance(path, int) or path is None:
            return
        named = os.fsdecode(path)
        if directory >= 0:
            named = os.path.join(os.readlink(f"/proc/self/fd/{directory}"), named)
        named = os.path.abspath(named)
        if named != self._state and not named.startswith(self._state + os.sep) and named != os.devnull:
            self._strays.append(f"{event} {named}")


def keep(out: Path, target: str, kind: str, data: bytes, why: str) -> Path:
    """The input beside why it was kept."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{target}-{kind}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    path.with_name(path.name + ".txt").write_text(why)
    return path
