"""The unit as it is shipped, under the real systemd: `make test-systemd`. Prints what it measures."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from pathlib import Path

import pytest
from machine import OTHER, Machine, cannot
from rtsp_server import RtspServer
from shipped import CONFIG, GOOD, INSTALL, configure, override, told, version

pytestmark = [pytest.mark.systemd, pytest.mark.skipif(bool(cannot()), reason=cannot())]


def test_all_of_systemd_is_the_one_that_was_asked_for(machine: Machine) -> None:
    shown = version(machine)
    assert f"systemd {shown.split('.')[0]} ({shown})" in machine.run("systemctl", "--version")
    libraries = list(Path(OTHER or "/", "usr/lib").rglob("libsystemd-shared-*.so"))
    assert [library.stem.rpartition("-")[2] for library in libraries] == [shown.split(".")[0]]


def test_the_unit_is_understood_without_a_warning_and_confined(machine: Machine) -> None:
    machine.write("/etc/edgeclip/credentials/a", "secret", 0o600)
    machine.run(*INSTALL, "--gpu")
    try:
        assert machine.run("systemd-analyze", "verify", "edgeclip.service").strip() == ""
        shown = machine.run("systemd-analyze", "security", "--no-pager", "edgeclip.service")
    finally:
        machine.file("/etc/edgeclip/credentials/a").unlink()
        machine.run(*INSTALL)
    level = re.search(r"exposure level for edgeclip.service: ([\d.]+)", shown)
    assert level is not None
    told(f"exposure {level[1]} of 10, with gpu.conf and a credential")
    assert float(level[1]) <= 2.0


# /proc/devices of a Jetson with JetPack 6, as its drivers name their numbers; made up of numbers that nobody has here.
JETSON = {"nvidia": 195, "17000000.gpu": 490, "host1x-fence": 491, "nvhost": 492, "other": 493}
NODES = {
    "/dev/nvidia0": "nvidia",
    "/dev/nvgpu/igpu0/ctrl": "17000000.gpu",
    "/dev/host1x-fence": "host1x-fence",
    "/dev/nvhost-vic": "nvhost",
    "/dev/other": "other",
}
OPENS = """
import errno, os, socket
for node in {nodes}:
    try:
        os.close(os.open(node, os.O_RDWR))
        print(node, "opened")
    except OSError as error:
        print(node, errno.errorcode[error.errno])
camera = socket.socket(socket.AF_UNIX)
camera.connect("/tmp/argus_socket")
print("argus connected")
"""


def test_the_gpu_part_opens_a_jetsons_devices_and_the_camera_daemon_and_nothing_more(machine: Machine) -> None:
    """A node that the unit may open has no driver here (ENXIO, ENODEV); one that it may not is refused with EPERM."""
    listed = (
        Path("/proc/devices")
        .read_text()
        .replace(
            "Character devices:\n", "Character devices:\n" + "".join(f"{JETSON[name]} {name}\n" for name in JETSON)
        )
    )
    machine.write("/run/devices", listed)
    machine.run("mount", "--bind", "/run/devices", "/proc/devices")
    daemon = socket.socket(socket.AF_UNIX)
    try:
        for node, name in NODES.items():
            machine.file(node).parent.mkdir(parents=True, exist_ok=True)
            machine.run("mknod", "-m", "666", node, "c", str(JETSON[name]), "0")
        machine.run("mknod", "-m", "666", "/dev/nvmap", "c", "10", "250")
        daemon.bind(str(machine.file("/tmp/argus_socket")))
        daemon.listen()
        machine.file("/tmp/argus_socket").chmod(0o777)
        machine.write("/opt/edgeclip/opens.py", OPENS.format(nodes=[*NODES, "/dev/nvmap"]))
        machine.run(*INSTALL, "--gpu")
        python = "/opt/edgeclip/python/bin/python3 /opt/edgeclip/opens.py"
        override(machine, "Type=oneshot", "Restart=no", "Environment=LD_LIBRARY_PATH=/opt/edgeclip/python/lib",
                 "ExecStart=", f"ExecStart={python}")  # fmt: skip
        machine.run("systemctl", "start", "edgeclip.service")
        said = machine.journal("-o", "cat")
    finally:
        daemon.close()
        machine.run("umount", "/proc/devices")
        machine.run("rm", "-rf", *NODES, "/dev/nvmap", "/tmp/argus_socket", "/dev/nvgpu")
        machine.run(*INSTALL)
    refused = [line.split()[0] for line in said.splitlines() if line.endswith(" EPERM")]
    assert refused == ["/dev/other"], said
    assert len([line for line in said.splitlines() if line.endswith((" ENXIO", " ENODEV"))]) == len(NODES), said
    assert "argus connected" in said
    assert "Couldn't stat device" not in said  # one line of noise in the journal for each, at every start


def test_an_image_is_made_with_the_tools_of_this_systemd(machine: Machine) -> None:
    machine.run("mkdir", "-p", "/var/image/usr/lib", "/var/image/etc")
    said = machine.run("/opt/edgeclip/bin/edgeclip", "service", "install", "--root", "/var/image")
    image = machine.file("/var/image")
    assert (image / "etc/systemd/system/multi-user.target.wants/edgeclip.service").is_symlink(), said
    users = dict(line.split(":", 1) for line in (image / "etc/passwd").read_text().splitlines())
    state = (image / "var/lib/edgeclip").stat()
    assert (str(state.st_uid), oct(state.st_mode & 0o777)) == (users["edgeclip"].split(":")[1], "0o750")
    assert oct((image / "etc/edgeclip/credentials").stat().st_mode & 0o777) == "0o700"
    machine.run("/opt/edgeclip/bin/edgeclip", "service", "uninstall", "--root", "/var/image")
    assert not list((image / "etc/systemd/system").rglob("edgeclip*"))


def test_it_starts_unprivileged_in_its_sandbox_and_is_ready_when_it_decides(machine: Machine) -> None:
    began_s = time.monotonic()
    machine.run("systemctl", "start", "edgeclip.service")
    told(f"ready {time.monotonic() - began_s:.2f} s after the start")
    assert machine.property("ActiveState") == "active"
    machine.wait(lambda: "tiny: demo" in machine.property("StatusText"), 10, "no STATUS")
    pid = machine.property("MainPID")
    facts = dict(line.split(":", 1) for line in machine.run("cat", f"/proc/{pid}/status").splitlines() if ":" in line)
    assert facts["Uid"].split()[0] == machine.run("id", "-u", "edgeclip").strip() != "0"
    groups = {machine.run("getent", "group", name).split(":")[2] for name in ("video", "render")}
    assert groups <= set(facts["Groups"].split())
    assert (int(facts["CapEff"], 16), facts["NoNewPrivs"].strip(), facts["Seccomp"].strip()) == (0, "1", "2")
    seen = machine.run("nsenter", f"--target={pid}", "--mount", "ls", "-A", "/root", "/home", "/tmp", check=False)
    assert [line for line in seen.splitlines() if line and not line.endswith(":")] == []


def test_the_journal_has_its_lines_with_priority_and_fields(machine: Machine, rtsp: RtspServer) -> None:
    rtsp.stop()
    configure(machine, GOOD.replace("demo", rtsp.url) + "ready_timeout_s: 1\n")
    machine.run("systemctl", "start", "edgeclip.service")
    machine.wait(lambda: "not there yet" in machine.journal(), 20, "not said")
    entries = [json.loads(line) for line in machine.journal("-o", "json").splitlines()]
    entry = next(entry for entry in entries if "not there yet" in str(entry["MESSAGE"]))
    assert (entry["PRIORITY"], entry["EDGECLIP_SOURCE"], entry["SYSLOG_IDENTIFIER"]) == ("4", rtsp.url, "edgeclip")


HANGING_ENGINE = """
import os, time
from edgeclip.runtime.backends import tflite
real = tflite.TFLiteEngine.run
def run(engine, batch):
    while os.path.exists("/var/lib/edgeclip/hang"):
        time.sleep(0.05)
    return real(engine, batch)
tflite.TFLiteEngine.run = run
"""


@pytest.mark.parametrize("how", ["the engine hangs", "the process is stopped"])
def test_the_watchdog_restarts_what_hangs(machine: Machine, how: str) -> None:
    machine.write("/opt/edgeclip/extra/sitecustomize.py", HANGING_ENGINE)
    override(machine, "WatchdogSec=2", "RestartSec=100ms")
    machine.run("systemctl", "start", "edgeclip.service")
    pid, restarts = machine.property("MainPID"), machine.property("NRestarts")
    if how == "the engine hangs":
        machine.write("/var/lib/edgeclip/hang", "")
    else:
        machine.run("kill", "-STOP", pid)
    found_s = machine.wait(lambda: machine.property("MainPID") != pid, 20, "the watchdog did not bite")
    machine.file("/var/lib/edgeclip/hang").unlink(missing_ok=True)
    back_s = machine.wait(lambda: machine.property("ActiveState") == "active", 20, "it did not come back")
    told(f"{how}: ended {found_s:.2f} s after, deciding again {found_s + back_s:.2f} s after (WatchdogSec=2)")
    assert found_s < 4
    assert int(machine.property("NRestarts")) == int(restarts) + 1
    said = machine.journal()
    assert "Watchdog timeout (limit 2s)!" in said
    assert "Fatal Python error: Aborted" in said  # and with it, where each thread was


SLOW_CLOSE = """
import threading, time
from edgeclip.runtime import heartbeat
from edgeclip.runtime.backends import tflite
heartbeat.BETWEEN_S = {between_s}
real = tflite.TFLiteEngine.close
def close(engine):
    if threading.current_thread() is threading.main_thread() and engine.input_dtype == "uint8":  # a run's, at its end
        time.sleep({takes_s})
    real(engine)
tflite.TFLiteEngine.close = close
"""


def test_a_reload_whose_end_takes_longer_than_the_watchdog_is_no_hang(machine: Machine) -> None:
    machine.write("/opt/edgeclip/extra/sitecustomize.py", SLOW_CLOSE.format(between_s=90.0, takes_s=6.0))
    override(machine, "WatchdogSec=2", "RestartSec=100ms")
    machine.run("systemctl", "start", "edgeclip.service")
    pid = machine.property("MainPID")
    configure(machine, GOOD.replace("dog, cat", "red cup, tree"))
    machine.run("systemctl", "reload", "edgeclip.service")
    machine.wait(lambda: "red cup" in machine.journal(), 40, "the new labels are not in force")
    assert (machine.property("MainPID"), machine.property("NRestarts")) == (pid, "0")
    machine.run("kill", "-STOP", pid)  # and the watchdog is as it was
    found_s = machine.wait(lambda: machine.property("MainPID") != pid, 20, "the watchdog did not bite")
    told(f"after a reload that took 6 s to close an engine, a hang was found in {found_s:.2f} s (WatchdogSec=2)")
    assert found_s < 4


def test_a_reload_that_hangs_is_found_at_its_deadline(machine: Machine) -> None:
    machine.write("/opt/edgeclip/extra/sitecustomize.py", SLOW_CLOSE.format(between_s=5.0, takes_s=60.0))
    override(machine, "WatchdogSec=2", "RestartSec=100ms")
    machine.run("systemctl", "start", "edgeclip.service")
    pid = machine.property("MainPID")
    configure(machine, GOOD.replace("dog, cat", "red cup, tree"))
    began_s = time.monotonic()
    machine.run("systemctl", "reload", "edgeclip.service", check=False)  # it may wait, and is told of the end
    machine.wait(lambda: machine.property("MainPID") != pid, 30, "the watchdog did not bite")
    told(f"a reload that hangs: ended {time.monotonic() - began_s:.2f} s after it was asked for (deadline 5 s)")
    assert "Watchdog timeout (limit 5s)!" in machine.journal()


def test_a_hang_up_at_any_moment_of_the_start_ends_nothing(machine: Machine) -> None:
    machine.run("systemctl", "start", "--no-block", "edgeclip.service")
    machine.wait(lambda: caught(machine), 20, "SIGHUP is not caught")
    pid = machine.property("MainPID")
    for _ in range(20):
        machine.run("systemctl", "kill", "--signal=HUP", "edgeclip.service")
    machine.wait(lambda: "configuration reloaded" in machine.journal(), 20, "it was not carried out")
    machine.wait(lambda: machine.property("ActiveState") == "active", 20, "not active")
    assert (machine.property("MainPID"), machine.property("NRestarts")) == (pid, "0")


def caught(machine: Machine) -> bool:
    """Whether the service handles SIGHUP, which is signal 1."""
    status = machine.run("cat", f"/proc/{machine.property('MainPID')}/status", check=False)
    mask = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), "0")
    return bool(int(mask, 16) & 1)


def test_a_camera_that_is_gone_is_degraded_and_not_restarted(machine: Machine, rtsp: RtspServer) -> None:
    override(machine, "WatchdogSec=2")
    configure(machine, GOOD.replace("demo", rtsp.url))
    machine.run("systemctl", "start", "edgeclip.service")
    pid = machine.property("MainPID")
    rtsp.stop()
    lost_s = machine.wait(lambda: "degraded: tiny: rtsp" in machine.property("StatusText"), 20, "not degraded")
    time.sleep(5)
    assert (machine.property("MainPID"), machine.property("ActiveState")) == (pid, "active")
    rtsp.start()
    back_s = machine.wait(lambda: machine.property("StatusText").startswith("tiny: rtsp"), 20, "not back")
    told(f"camera gone: degraded in `systemctl status` after {lost_s:.1f} s; back {back_s:.1f} s after its return")


def test_a_camera_that_is_away_at_the_start_does_not_hold_up_the_boot(machine: Machine, rtsp: RtspServer) -> None:
    rtsp.stop()
    configure(machine, GOOD.replace("demo", rtsp.url) + "ready_timeout_s: 2\n")
    began_s = time.monotonic()
    machine.run("systemctl", "start", "edgeclip.service")
    told(f"started, degraded, {time.monotonic() - began_s:.1f} s after (ready_timeout_s: 2)")
    assert machine.property("ActiveState") == "active"
    assert machine.property("StatusText").startswith("degraded: tiny: rtsp")


def test_a_good_configuration_is_reloaded_and_a_bad_one_refused(machine: Machine) -> None:
    machine.run("systemctl", "start", "edgeclip.service")
    pid = machine.property("MainPID")
    configure(machine, GOOD + "top: lots\n")
    machine.run("systemctl", "reload", "edgeclip.service")
    machine.wait(lambda: f"the configuration in force stays: {CONFIG}:5: `top`" in machine.journal(), 10, "not refused")
    machine.wait(lambda: machine.property("ActiveState") == "active", 10, "still reloading")
    machine.wait(lambda: "reload refused: " in machine.property("StatusText"), 10, "not in the status")
    configure(machine, GOOD.replace("dog, cat", "red cup, tree"))
    began_s = time.monotonic()
    machine.run("systemctl", "reload", "edgeclip.service")
    machine.wait(lambda: "configuration reloaded" in machine.journal(), 10, "not reloaded")
    machine.wait(lambda: machine.property("ActiveState") == "active", 10, "still reloading")
    told(f"reload: checked, swapped and deciding {time.monotonic() - began_s:.2f} s after")
    machine.wait(lambda: "red cup" in machine.journal(), 10, "the new labels are not in force")
    assert (machine.property("MainPID"), machine.property("NRestarts")) == (pid, "0")


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        (78, "source: demo\nlables: x\n", "unknown key `lables` (did you mean `labels`?)"),
        (65, "source: demo\nbundle: /none\n", "/none"),
        (2, "wait: true\n", "no source to watch"),
    ],
)
def test_what_would_fail_again_is_not_restarted(machine: Machine, code: int, text: str, reason: str) -> None:
    configure(machine, text)
    machine.run("systemctl", "start", "edgeclip.service", check=False)
    time.sleep(0.5)
    assert machine.property("ActiveState") == "failed"
    assert (machine.property("ExecMainStatus"), machine.property("NRestarts")) == (str(code), "0")
    assert reason in machine.property("StatusText")
    shown = machine.run("systemctl", "status", "edgeclip.service", check=False)
    assert f"status={code}/" in shown
    assert reason in shown


def test_a_crash_loop_ends_failed_with_its_reason(machine: Machine) -> None:
    override(machine, "RestartSec=500ms")
    configure(machine, GOOD + "backend: tensorrt\n")
    began_s = time.monotonic()
    machine.run("systemctl", "start", "edgeclip.service", check=False)
    machine.wait(lambda: machine.property("ActiveState") == "failed", 60, "it goes on and on")
    told(f"crash loop: failed after 5 starts, {time.monotonic() - began_s:.1f} s (RestartSec=500ms)")
    assert machine.journal().count("Scheduled restart job") == 5
    assert machine.property("NRestarts") == "5"
    assert "tensorrt" in machine.property("StatusText")
    shown = machine.run("systemctl", "status", "edgeclip.service", check=False)
    assert "failed: " in shown
    assert "Start request repeated too quickly" in machine.journal()
    status = machine.run("/opt/edgeclip/bin/edgeclip", "service", "status", check=False)
    assert "failed: " in status


def test_a_secret_reaches_the_camera_and_nothing_else(machine: Machine) -> None:
    secret = "s3cret/with@signs"
    with RtspServer(password=secret) as rtsp:
        machine.write("/etc/edgeclip/credentials/camera_password", f"{secret}\n", 0o600)
        said = machine.run(*INSTALL)
        assert "credentials.conf" in machine.property("DropInPaths"), said
        url = rtsp.url.replace("rtsp://", "rtsp://cam:${credential:camera_password}@")
        configure(machine, GOOD.replace("demo", f"'{url}'"))
        machine.run("systemctl", "start", "edgeclip.service", check=False)
        machine.wait(lambda: "fps, age" in machine.property("StatusText"), 20, "no picture")
        pid = machine.property("MainPID")
        facts = [machine.run("cat", f"/proc/{pid}/{name}") for name in ("cmdline", "environ")]
        facts += [machine.journal("-o", "json"), machine.run("systemctl", "show", "edgeclip.service")]
    assert not [fact for fact in facts if secret in fact or "s3cret" in fact]
    machine.file("/etc/edgeclip/credentials/camera_password").unlink()
    machine.run(*INSTALL)
    assert not machine.file("/etc/systemd/system/edgeclip.service.d/credentials.conf").exists()


def test_a_stop_drains_the_sinks(machine: Machine) -> None:
    configure(machine, GOOD + "sink: jsonl:/var/lib/edgeclip/seen.jsonl\n")
    machine.run("systemctl", "start", "edgeclip.service")
    time.sleep(1)
    began_s = time.monotonic()
    machine.run("systemctl", "stop", "edgeclip.service")
    told(f"stopped in {time.monotonic() - began_s:.2f} s")
    assert machine.property("Result") == "success"
    lines = machine.file("/var/lib/edgeclip/seen.jsonl").read_text().splitlines()
    assert all(json.loads(line) for line in lines)
    assert f"{len(lines)} frames in " in machine.journal()


def fill(pipe: int) -> None:
    """Until a further write waits for ever."""
    try:
        while True:
            os.write(pipe, b"\n" * 512)
    except BlockingIOError:
        return


def test_a_sink_that_hangs_does_not_hold_up_a_stop(machine: Machine) -> None:
    machine.run("rm", "-f", "/var/lib/edgeclip/pipe")
    machine.run("mkfifo", "-m", "666", "/var/lib/edgeclip/pipe")
    configure(machine, GOOD + "sink: jsonl:/var/lib/edgeclip/pipe\ndrain_timeout_s: 2\n")
    pipe = os.open(machine.file("/var/lib/edgeclip/pipe"), os.O_RDWR | os.O_NONBLOCK)
    try:
        machine.run("systemctl", "start", "edgeclip.service")
        fill(pipe)
        began_s = time.monotonic()
        machine.run("systemctl", "stop", "edgeclip.service")
        took_s = time.monotonic() - began_s
    finally:
        os.close(pipe)
    told(f"a hanging sink: stopped in {took_s:.2f} s (drain_timeout_s: 2)")
    assert 1.5 < took_s < 5
    assert "stopped after 2 s with a sink still not done" in machine.journal()


def test_uninstall_leaves_what_is_the_users(machine: Machine) -> None:
    said = machine.run("/opt/edgeclip/bin/edgeclip", "service", "uninstall")
    assert f"{CONFIG}: left" in said
    assert machine.property("LoadState") == "not-found"
    again = machine.run(*INSTALL)
    assert f"{CONFIG}: yours, left as it is" in again
    assert "unchanged" not in again.splitlines()[0]


def test_after_the_deb_its_unit_is_the_one_that_runs(machine: Machine) -> None:
    """As deploy/deb/build.sh puts the files, and over a copy that an earlier `service install` had written."""
    places = {"edgeclip.service": "systemd/system/edgeclip.service"}
    places |= {f"{name}.conf": f"{name}.d/edgeclip.conf" for name in ("sysusers", "tmpfiles")}
    for name, place in places.items():
        machine.write(f"/usr/lib/{place}", (Path(__file__).parents[2] / "deploy" / name).read_text())
    try:
        machine.run(*INSTALL, "--gpu", "--now")
        machine.wait(lambda: machine.property("ActiveState") == "active", 30, "it did not start")
        assert machine.property("FragmentPath").endswith("/lib/systemd/system/edgeclip.service")
        assert machine.property("UnitFileState") == "enabled"
        assert "gpu.conf" in machine.property("DropInPaths")
        machine.run("/opt/edgeclip/bin/edgeclip", "service", "uninstall")
        assert (machine.property("ActiveState"), machine.property("UnitFileState")) == ("inactive", "disabled")
        assert machine.property("DropInPaths") == ""
    finally:
        machine.run("rm", "-f", *(f"/usr/lib/{place}" for place in places.values()))
        machine.run(*INSTALL)
