"""Lines for people, which the journal keeps with a priority and fields of ours.

journald's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) where standard error is connected to the journal;
`journalctl -u edgeclip -p warning`, and `journalctl EDGECLIP_SOURCE=...`, then find what they name.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from typing import TextIO

SOCKET = "/run/systemd/journal/socket"
ERROR, WARNING, INFO = 3, 4, 6  # syslog(3)


class Notice(str):
    """A line, and what the journal keeps beside it. fields: by name, like EDGECLIP_SOURCE."""

    priority: int
    fields: Mapping[str, str]

    def __new__(cls, text: str, priority: int = INFO, **fields: str) -> Notice:
        notice = super().__new__(cls, text)
        notice.priority, notice.fields = priority, fields
        return notice


def goes_to_journal(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `stream` is the one that systemd connected: JOURNAL_STREAM is its device and inode (systemd.exec(5))."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def send(message: str, priority: int, fields: Mapping[str, str], address: str = SOCKET) -> bool:
    """One entry. fields: by name, like EDGECLIP_SOURCE. False where the journal does not take it."""
    entry = {"MESSAGE": message, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "edgeclip", **fields}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as journal:
            journal.sendto(b"".join(_encoded(name, value) for name, value in entry.items()), address)
    except OSError:
        return False
    return True


def write(stream: TextIO, message: str, priority: int, fields: Mapping[str, str] | None = None) -> None:
    """As a journal entry where `stream` leads there; else as plain lines, in the journal's stead."""
    if goes_to_journal(stream):
        if send(message, priority, fields or {}):
            return
        message = "\n".join(f"<{priority}>{line}" for line in message.splitlines())
    stream.write(f"{message}\n")
    stream.flush()


def _encoded(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "replace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
