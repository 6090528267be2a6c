"""The shipped unit's state directory under the real systemd: whose it is, full, and read-only."""

from __future__ import annotations

import pytest
from machine import Machine, cannot
from shipped import GOOD, configure, told

pytestmark = [pytest.mark.systemd, pytest.mark.skipif(bool(cannot()), reason=cannot())]

WHO_TESTS = """
import os, sys
if "edgeclip.selftest" in sys.orig_argv:
    with open("/tmp/tested", "a") as file:
        print(os.getuid(), sorted(os.getgroups()), file=file)
"""


def test_a_bundle_that_root_installs_is_tested_as_the_service_s_user_and_belongs_to_it(machine: Machine) -> None:
    edgeclip = "/opt/edgeclip/bin/edgeclip"
    configure(machine, GOOD.replace("/var/lib/tiny", "current"))
    machine.write("/opt/edgeclip/extra/sitecustomize.py", WHO_TESTS)
    said = machine.run(edgeclip, "bundle", "install", "/var/lib/tiny")
    assert "golden frames pass" in said
    assert "a service takes it at `systemctl reload edgeclip`" in said
    ids = machine.run("id", "--user", "edgeclip").strip(), machine.run("id", "--groups", "edgeclip").split()
    assert machine.file("/tmp/tested").read_text() == f"{ids[0]} {sorted(int(group) for group in ids[1])}\n"
    foreign = machine.run("find", "/var/lib/edgeclip/bundles", "!", "-user", "edgeclip")
    assert foreign == ""
    machine.run("systemctl", "start", "edgeclip.service")
    assert "on probation" in machine.run(edgeclip, "bundle", "list")


def test_a_read_only_state_directory_does_not_stop_a_bundle_on_probation(machine: Machine) -> None:
    edgeclip = "/opt/edgeclip/bin/edgeclip"
    configure(machine, GOOD.replace("/var/lib/tiny", "current"))
    machine.run(edgeclip, "bundle", "install", "/var/lib/tiny")
    machine.run("mount", "--bind", "/var/lib/edgeclip", "/var/lib/edgeclip")
    try:
        machine.run("mount", "-o", "remount,ro,bind", "/var/lib/edgeclip")
        machine.run("systemctl", "start", "edgeclip.service")
        assert "Read-only file system" in machine.journal()
        machine.run("systemctl", "stop", "edgeclip.service")
        assert machine.property("Result") == "success"
    finally:
        machine.run("umount", "/var/lib/edgeclip")


def test_a_full_disk_is_waited_for(machine: Machine) -> None:
    machine.write("/etc/edgeclip/watches.yaml", "watches:\n- name: dog\n  prompts: [a dog]\n")
    watches = GOOD.replace("label: [dog, cat]", "watch: /etc/edgeclip/watches.yaml")
    configure(machine, f"{watches}sink: jsonl:/var/lib/edgeclip/events.jsonl\n")
    machine.run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", "/var/lib/edgeclip")
    try:
        machine.run("chown", "edgeclip:edgeclip", "/var/lib/edgeclip")
        machine.run("dd", "if=/dev/zero", "of=/var/lib/edgeclip/fill", "bs=4k", check=False)
        machine.run("systemctl", "start", "edgeclip.service")
        assert machine.property("StatusText").startswith("degraded: cannot open the outbox")
        machine.file("/var/lib/edgeclip/fill").unlink()
        back_s = machine.wait(lambda: "demo" in machine.property("StatusText"), 60, "it did not go on")
        told(f"a full disk: deciding {back_s:.0f} s after there was room again")
        assert machine.property("NRestarts") == "0"
        machine.run("systemctl", "stop", "edgeclip.service")
    finally:
        machine.run("umount", "--lazy", "/var/lib/edgeclip")
