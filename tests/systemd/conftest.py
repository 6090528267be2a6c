"""One machine for the tests of a file: it boots in a second, and each test finds it as after an installation."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from machine import Machine
from shipped import DROP_IN, GOOD, INSTALL, configure, told, version


@pytest.fixture(scope="module")
def machine(tiny_path: Path) -> Iterator[Machine]:
    with Machine() as machine:
        machine.run("systemctl", "start", "sysinit.target")  # clears /tmp, as every boot does
        shutil.copytree(tiny_path, machine.file("/var/lib/tiny"))
        machine.run(*INSTALL)
        told(f"on systemd {version(machine)}")
        yield machine


@pytest.fixture(autouse=True)
def fresh(machine: Machine) -> Iterator[None]:
    """Each test begins with a good configuration, the unit as it is shipped, and nothing running."""
    configure(machine, GOOD)
    machine.forget()
    yield
    machine.run("systemctl", "kill", "--signal=KILL", "edgeclip.service", check=False)
    machine.run("systemctl", "stop", "edgeclip.service", check=False)
    machine.run("systemctl", "reset-failed", "edgeclip.service", check=False)
    for left in (DROP_IN, "/opt/edgeclip/extra/sitecustomize.py", "/var/lib/edgeclip/hang"):
        machine.file(left).unlink(missing_ok=True)
    machine.run("systemctl", "daemon-reload")
