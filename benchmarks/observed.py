"""`edgeclip run --json` as a process of its own, watched from outside: its decisions, its notices, what it takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # rtsp_server, mosquitto

LOST = "lost: "


class Taken(NamedTuple):
    """What a process holds at a moment. at_s: of the monotonic clock. own_mb: of rss_mb, what is no file's."""

    at_s: float
    rss_mb: float
    own_mb: float
    fds: int
    threads: int


class ObservedRun:
    """captured_s, ages_ms: of each decision, on the monotonic clock that both processes have. notices: (when, line)."""

    def __init__(self, arguments: Sequence[str], state: Path, extra: Mapping[str, str] | None = None) -> None:
        self.captured_s, self.ages_ms = array("d"), array("d")
        self.notices: list[tuple[float, str]] = []
        environment = {
            **os.environ,
            "EDGECLIP_STATE": str(state),
            "EDGECLIP_CACHE": str(state / "cache"),
            **(extra or {}),
        }
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-m", "edgeclip", "run", "--json", "--threads", "1", *arguments]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._decisions, self._notices)]
        for reader in self._readers:
            reader.start()

    def wait_for_frames(self, count: int, limit_s: float = 60.0) -> None:
        """Until `count` more decisions were made. Raises RuntimeError where the process ends or time does."""
        wanted, deadline_s = len(self.captured_s) + count, time.monotonic() + limit_s
        while len(self.captured_s) < wanted:
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                said = "\n".join(line for _, line in self.notices[-20:])
                raise RuntimeError(f"edgeclip run gave no frames ({self.process.poll()}):\n{said}")
            time.sleep(0.02)

    def lost_after(self, moment_s: float) -> float | None:
        """When it first said so, after a moment."""
        return next((at_s for at_s, line in list(self.notices) if at_s >= moment_s and LOST in line), None)

    def taken(self) -> Taken:
        """Raises OSError where the process is gone."""
        place = Path(f"/proc/{self.process.pid}")
        fields = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines() if ":\t" in line)
        rss_mb, own_mb = (int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon"))
        return Taken(time.monotonic(), rss_mb, own_mb, len(os.listdir(place / "fd")), int(fields["Threads"]))

    def stop(self, limit_s: float = 60.0) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(limit_s)
        for reader in self._readers:
            reader.join(5)
        return code

    def _decisions(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            decision = json.loads(line)
            self.ages_ms.append(decision["age_ms"])
            self.captured_s.append(decision["captured_ns"] / 1e9)

    def _notices(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.notices.append((time.monotonic(), line.decode(errors="replace").rstrip()))


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, -int(-share * len(ranked) // 1) - 1))]
