from __future__ import annotations

import fnmatch
import os
import tempfile
from pathlib import Path

import pytest
from tiny_bundle import engine, write_bundle

from edgeclip import device
from edgeclip.runtime.backends.plan_target import DeviceFacts
from edgeclip.runtime.board import Board


def test_a_user_outside_of_the_groups_is_told_which(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = {"video": 44, "render": 104}
    monkeypatch.setattr(device, "_group", lambda name: type("Group", (), {"gr_gid": ids[name]}))
    assert device.groups(mine=[44, 104], user_id=1000).status == "ok"
    check = device.groups(mine=[44], user_id=1000)
    assert check.status == "warn"
    assert check.fix == 'sudo usermod -aG render "$USER", then log in again'
    assert device.groups(mine=[], user_id=0).status == "ok"


def test_devices_that_may_not_be_opened_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tmp_path / "nvmap"
    node.touch()
    found = lambda pattern: [str(node)] if pattern == "/dev/nvmap" else []  # noqa: E731
    assert [(check.name, check.status) for check in device.device_nodes(found)] == [("nvidia devices", "ok")]
    monkeypatch.setattr(device.os, "access", lambda *arguments: False)
    monkeypatch.setattr(device, "_owner", lambda node: "video")
    check = device.device_nodes(found)[0]
    assert (check.status, str(node) in check.detail) == ("warn", True)
    assert "usermod -aG" in check.fix
    assert device.device_nodes(lambda pattern: []) == []


def test_a_node_whose_udev_rules_were_not_applied_is_nobodys_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = lambda pattern: [pattern] if pattern in ("/dev/nvmap", "/dev/nvhost-vic") else []  # noqa: E731
    monkeypatch.setattr(device.os, "access", lambda *arguments: False)
    monkeypatch.setattr(device, "_owner", lambda node: "root")
    assert "sudo udevadm trigger" in device.device_nodes(found)[0].fix
    monkeypatch.setattr(device, "_owner", lambda node: "video" if node == "/dev/nvmap" else "root")
    assert device.device_nodes(found)[0].fix.startswith("sudo usermod -aG video ")


def test_what_a_jetson_keeps_to_profilers_and_root_is_not_asked_for() -> None:
    """99-tegra-devices.rules of JetPack 6: nobody in `video` may open these, and nothing here needs them."""
    asked: list[str] = []
    device.device_nodes(lambda pattern: asked.append(pattern) or [])
    for name in ("dbg", "prof", "prof-ctx", "prof-dev", "ctxsw", "sched"):
        for node in (f"/dev/nvgpu/igpu0/{name}", f"/dev/nvhost-{name}-gpu"):
            assert not [pattern for pattern in asked if fnmatch.fnmatchcase(node, pattern)], node
    assert "/dev/nvgpu/igpu0/ctrl" in asked


def test_missing_gstreamer_plugins_come_with_their_packages() -> None:
    assert device.gstreamer_plugins(False, False).status == "ok"
    assert device.gstreamer_plugins(True, False, has=lambda element: True).status == "ok"
    check = device.gstreamer_plugins(True, True, has=lambda element: element not in ("avdec_h264", "nvarguscamerasrc"))
    assert check.detail == "missing: avdec_h264, nvarguscamerasrc"
    assert check.fix == "sudo apt install gstreamer1.0-libav, and sudo apt install nvidia-l4t-gstreamer (JetPack)"


def test_the_disk_is_tried_and_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = device.disk(tmp_path / "not" / "yet")
    assert "fsyncs a second" in check.detail
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(device, "SLOW_FSYNCS_S", float("inf"))
    assert device.disk(tmp_path).status == "warn"
    monkeypatch.setattr(device.os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert "No space left on device" in device.disk(tmp_path).detail


def test_a_place_that_this_user_may_not_look_into_is_a_finding() -> None:
    with tempfile.TemporaryDirectory() as place:
        closed = Path(place) / "closed"
        closed.mkdir(mode=0)
        Path(place).chmod(0o555)
        told, said = os.pipe()
        if (child := os.fork()) == 0:  # root may look everywhere
            if os.geteuid() == 0:
                os.setuid(65534)
            os.write(said, device.disk(closed / "a" / "b").detail.encode())
            os._exit(0)
        os.close(said)
        assert os.waitpid(child, 0)[1] == 0
        with os.fdopen(told) as answer:
            assert answer.read() == f"{closed} cannot be written: Permission denied"


def test_a_clock_that_was_never_set_or_that_nothing_keeps() -> None:
    assert device.clock(1_900_000_000.0, synchronised=True).status == "ok"
    assert "nothing keeps it right" in device.clock(1_900_000_000.0, synchronised=False).detail
    never = device.clock(86_400.0, synchronised=True)
    assert (never.status, "1970-01-02" in never.detail) == ("warn", True)
    assert device.clock().detail  # the kernel answers


def test_cooling(tmp_path: Path) -> None:
    assert device.cooling(Board(tmp_path)).status == "ok"
    zone, cooler = tmp_path / "class/thermal/thermal_zone0", tmp_path / "class/thermal/cooling_device0"
    for folder in (zone, cooler):
        folder.mkdir(parents=True)
    values = {"type": "cpu-thermal", "temp": "60000", "trip_point_0_type": "passive", "trip_point_0_temp": "85000"}
    for name, value in values.items():
        (zone / name).write_text(value)
    (cooler / "type").write_text("cpufreq-cpu0")
    (cooler / "cur_state").write_text("0")
    assert device.cooling(Board(tmp_path)).detail == "cpu-thermal 60 °C"
    (zone / "temp").write_text("80000")
    assert "throttles at 85 °C" in device.cooling(Board(tmp_path)).detail
    (cooler / "cur_state").write_text("2")
    check = device.cooling(Board(tmp_path))
    assert (check.status, check.detail) == ("warn", "it throttles at this moment: cpufreq-cpu0")


def test_the_plans_of_every_installed_bundle_are_held_against_this_device(tmp_path: Path) -> None:
    forms = (engine("image", "plan", "tensorrt"), engine("image", "onnx"), engine("text", "onnx"))
    store = tmp_path / "bundles"
    store.mkdir()
    write_bundle(store / "nano-1", engines=forms)
    os.symlink(store / "nano-1", store / "current")
    (store / "half").mkdir()
    found = device.installed_bundles(tmp_path)
    assert [path.name for path in found] == ["nano-1"]
    other = device.plans(found, lambda runtime: DeviceFacts(runtime, "99.0.0", "", ""))[0]
    assert (other.name, other.status) == ("nano-1/image.plan", "warn")
    assert "and this is 99.0.0" in other.detail
    assert other.fix == f"edgeclip compile {found[0]}"
    assert device.plans(found, lambda runtime: DeviceFacts(runtime, "", "", ""))[0].status in ("ok", "warn")
    assert device.plans([store / "half"])[0].status == "warn"
    assert device.installed_bundles(tmp_path / "none") == []


def test_what_another_user_wrote_into_the_state_directory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outbox.sqlite").touch()
    (tmp_path / "media").mkdir()
    assert device.ownership(tmp_path) == []
    assert device.ownership(tmp_path / "not there") == []
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(tmp_path / "outbox.sqlite", 12345, 12345)
    (check,) = device.ownership(tmp_path)
    assert check.status == "warn"
    assert "outbox.sqlite: of another owner" in check.detail
    assert check.fix == f"sudo chown -R --reference={tmp_path} {tmp_path}"
