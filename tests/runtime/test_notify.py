from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from service_manager import ServiceManager

from edgeclip.runtime.notify import sd_notify, watchdog_timeout_s


def test_assignments_arrive_one_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ServiceManager(tmp_path) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.path)
        assert sd_notify("READY=1", "STATUS=two\nlines")
        assert manager.wait_for("READY") == "READY=1"
        assert manager.drain() == ["STATUS=two lines"]


def test_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0edgeclip-test-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@edgeclip-test-{os.getpid()}")
        assert sd_notify("WATCHDOG=1")
        assert listening.recv(100) == b"WATCHDOG=1"


def test_without_a_manager_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not sd_notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not sd_notify("READY=1")


def test_a_manager_that_does_not_listen_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ServiceManager(tmp_path) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.path)
        assert not all(sd_notify("WATCHDOG=1") for _ in range(5000))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_ours_or_another_process_s(environment: dict[str, str], expected: float | None) -> None:
    assert watchdog_timeout_s(environment) == expected
