"""The unit as it is shipped: what its tests under systemd share."""

from __future__ import annotations

import sys

from machine import Machine

CONFIG = "/etc/edgeclip/edgeclip.yaml"
GOOD = "source: demo\nwait: true\nbundle: /var/lib/tiny\nlabel: [dog, cat]\n"
DROP_IN = "/etc/systemd/system/edgeclip.service.d/test.conf"
INSTALL = ("/opt/edgeclip/bin/edgeclip", "service", "install", "--exec", "/opt/edgeclip/bin/edgeclip")


def configure(machine: Machine, text: str) -> None:
    machine.write(CONFIG, text)


def override(machine: Machine, *lines: str) -> None:
    machine.write(DROP_IN, "\n".join(["[Service]", *lines, ""]))
    machine.run("systemctl", "daemon-reload")


def told(figure: str) -> None:
    print(f"\n  measured: {figure}", file=sys.stderr)


def version(machine: Machine) -> str:
    """Of PID 1 itself, like 247.3-7+deb11u8."""
    return machine.run("systemctl", "show", "--property=Version", "--value").strip()
