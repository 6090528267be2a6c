"""sd_notify(3), what a service tells systemd about itself, as eight lines of the standard library."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


def sd_notify(*assignments: str) -> bool:
    """Send "READY=1" and the like. False where no service manager listens; never waits for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # abstract
        address = "\0" + address[1:]
    message = "\n".join(line.replace("\n", " ") for line in assignments)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as manager:
            manager.sendto(message.encode("utf-8", "replace"), address)
    except OSError:  # systemd is away, as while it executes itself anew: a camera does not stop for that
        return False
    return True


def is_managed(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a service manager runs this process, and so may start it again."""
    return bool(environment.get("NOTIFY_SOCKET"))


def watchdog_timeout_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """Within how many seconds the manager wants a WATCHDOG=1 of this process; None where it does not."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None
