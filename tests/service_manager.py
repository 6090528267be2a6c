"""The manager's end of sd_notify, for tests."""

from __future__ import annotations

import select
import socket
import time
from pathlib import Path
from types import TracebackType


class ServiceManager:
    """Listens on a socket and keeps every assignment it was sent, in order: `said` ["READY=1", ...]."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self.said: list[str] = []

    def __enter__(self) -> ServiceManager:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()

    def wait_for(self, start: str, limit_s: float = 30.0) -> str:
        """The next assignment that begins with `start`; those before it are forgotten."""
        end_s = time.monotonic() + limit_s
        while True:
            while self.said:
                assignment = self.said.pop(0)
                if assignment.startswith(start):
                    return assignment
            left_s = end_s - time.monotonic()
            assert left_s > 0, f"no {start} within {limit_s} s"
            if select.select([self._socket], [], [], left_s)[0]:
                self.said += self._socket.recv(65536).decode().split("\n")

    def drain(self) -> list[str]:
        """All that was said and not waited for."""
        while select.select([self._socket], [], [], 0.0)[0]:
            self.said += self._socket.recv(65536).decode().split("\n")
        said, self.said = self.said, []
        return said
