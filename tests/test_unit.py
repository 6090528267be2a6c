"""The service's files in an image's root; the unit's exposure; what `edgeclip service` says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgeclip import unit
from edgeclip.cli import main
from edgeclip.config import FIELDS, load_config
from edgeclip.errors import CONFIGURATION, UNAVAILABLE, ConfigError, EdgeclipError
from edgeclip.unit import Place, deploy_file

DEPLOY = Path(__file__).parent.parent / "deploy"
needs_systemd = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("systemd-sysusers", "systemd-tmpfiles", "systemctl"))),
    reason="needs systemd's tools, and root, who alone may give files to another user",
)


# The configuration that is shipped


def uncommented() -> dict[str, Any]:
    """Every key of deploy/edgeclip.yaml with its value, commented out or not."""
    text = (DEPLOY / "edgeclip.yaml").read_text()
    plain = re.sub(r"^#(?=[a-z_]+:)", "", text, flags=re.MULTILINE)
    keys = re.findall(r"^([a-z_]+):", plain, flags=re.MULTILINE)
    assert len(keys) == len(set(keys)), "a key is there twice: uncommented, both would be refused"
    found: dict[str, Any] = yaml.safe_load(plain)
    return found


def test_every_setting_is_in_the_shipped_configuration_with_its_default() -> None:
    found = uncommented()
    assert set(found) == set(FIELDS), "deploy/edgeclip.yaml and edgeclip/config.py differ"
    active = yaml.safe_load((DEPLOY / "edgeclip.yaml").read_text())
    for key, field in FIELDS.items():
        if key not in active and field.default not in (None, ()):
            assert found[key] == field.default, key


def test_every_setting_is_explained_in_words() -> None:
    lines = (DEPLOY / "edgeclip.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"#?[a-z_]+:", line):
            above = [before for before in lines[:number] if before.strip()]
            explained = next(before for before in reversed(above) if not re.match(r"#?[a-z_]+:", before))
            assert re.match(r"# .*\w{3,}", explained), line


def test_the_shipped_configuration_and_every_example_in_it_are_valid(tmp_path: Path) -> None:
    assert load_config({}, {}, str(DEPLOY / "edgeclip.yaml")).wait
    found = uncommented()
    del found["label"]
    path = tmp_path / "edgeclip.yaml"
    path.write_text(yaml.safe_dump(found))
    load_config({}, {}, str(path))


# The unit


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze (apt-get install systemd)")
@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_its_exposure_is_at_most_two(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "etc/systemd/system"
    folder.mkdir(parents=True)
    shutil.copy(DEPLOY / "edgeclip.service", folder)
    if kind == "gpu":
        (folder / "edgeclip.service.d").mkdir()
        shutil.copy(DEPLOY / "edgeclip-gpu.conf", folder / "edgeclip.service.d/gpu.conf")
    done = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager"),
            *(f"--root={tmp_path}", "edgeclip.service"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-400:] + done.stderr
    level = re.search(r"exposure level for edgeclip.service: ([\d.]+)", done.stdout)
    assert level is not None
    assert float(level[1]) <= 2.0


def test_the_unit_keeps_clear_of_the_known_traps() -> None:
    text = (DEPLOY / "edgeclip.service").read_text()
    settings = [line for line in text.splitlines() if line and not line.startswith(("#", "["))]
    assert "Type=notify" in settings  # notify-reload needs systemd 253, JetPack 6 has 249
    assert "RestartPreventExitStatus=2 65 78" in settings
    assert not [line for line in settings if line.startswith(("ProcSubset=", "RestartSteps=")) or "~@resources" in line]


# What systemd 247 (Debian 11) read without a warning: `systemd-analyze verify` there. Ask it before another is added.
KNOWN_TO_247 = """
Description Documentation After StartLimitIntervalSec StartLimitBurst WantedBy Type NotifyAccess ExecStart ExecReload
TimeoutStartSec WatchdogSec WatchdogSignal TimeoutAbortSec TimeoutStopSec Restart RestartSec RestartPreventExitStatus
LimitCORE User Group SupplementaryGroups StateDirectory StateDirectoryMode CacheDirectory CacheDirectoryMode
ConfigurationDirectory WorkingDirectory Environment UMask DevicePolicy DeviceAllow NoNewPrivileges
CapabilityBoundingSet AmbientCapabilities ProtectSystem ProtectHome PrivateTmp ProtectProc ProtectClock
ProtectHostname ProtectControlGroups ProtectKernelLogs ProtectKernelModules ProtectKernelTunables
RestrictAddressFamilies RestrictNamespaces RestrictRealtime RestrictSUIDSGID LockPersonality MemoryDenyWriteExecute
RemoveIPC KeyringMode SystemCallArchitectures SystemCallFilter SystemCallErrorNumber BindPaths LoadCredential
"""


@pytest.mark.parametrize("name", ["edgeclip.service", "edgeclip-gpu.conf"])
def test_every_setting_is_known_to_the_systemd_of_jetpack_6(name: str) -> None:
    settings = re.findall(r"^(\w+)=", (DEPLOY / name).read_text(), re.MULTILINE)
    assert settings
    assert not set(settings) - set(KNOWN_TO_247.split())


def test_the_wheel_carries_every_file_that_install_needs() -> None:
    project = (DEPLOY.parent / "pyproject.toml").read_text()
    for name in (*unit.FILES, *unit.KEPT, "edgeclip-gpu.conf"):
        assert f'"deploy/{name}" = "edgeclip/deploy/{name}"' in project
        assert deploy_file(name).is_file()


# Install and uninstall


def installed(root: Path, said: list[str], **options: Any) -> None:
    unit.install(Place(root, say=said.append), **options)


@needs_systemd
def test_an_image_gets_the_whole_service_and_a_second_time_changes_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    installed(tmp_path, said)
    assert (tmp_path / "etc/systemd/system/multi-user.target.wants/edgeclip.service").is_symlink()
    assert "edgeclip:" in (tmp_path / "etc/passwd").read_text()
    assert (tmp_path / "var/lib/edgeclip").is_dir()
    assert oct((tmp_path / "etc/edgeclip/credentials").stat().st_mode & 0o777) == "0o700"
    assert (tmp_path / "etc/edgeclip/keys.d").is_dir()
    assert "ExecStart=/opt/edgeclip/bin/edgeclip run" in (tmp_path / "etc/systemd/system/edgeclip.service").read_text()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.suffix == ".conf"}
    said.clear()
    installed(tmp_path, said)
    assert not [line for line in said if line.endswith(("written", "replaced"))]
    assert before == {path: path.stat().st_mtime_ns for path in before}


@needs_systemd
def test_what_a_user_edited_stays_and_what_is_ours_is_brought_up_to_date(tmp_path: Path) -> None:
    said: list[str] = []
    installed(tmp_path, said)
    (tmp_path / "etc/edgeclip/edgeclip.yaml").write_text("source: demo\n")
    (tmp_path / "etc/systemd/system/edgeclip.service").write_text("[Service]\n")
    said.clear()
    installed(tmp_path, said, executable="/usr/bin/edgeclip")
    assert (tmp_path / "etc/edgeclip/edgeclip.yaml").read_text() == "source: demo\n"
    assert "ExecStart=/usr/bin/edgeclip run" in (tmp_path / "etc/systemd/system/edgeclip.service").read_text()
    assert f"{tmp_path}/etc/edgeclip/edgeclip.yaml: yours, left as it is" in said


@needs_systemd
def test_credentials_and_a_gpu_are_found(tmp_path: Path) -> None:
    drop_ins = tmp_path / "etc/systemd/system/edgeclip.service.d"
    (tmp_path / "etc/edgeclip/credentials").mkdir(parents=True)
    (tmp_path / "etc/edgeclip/credentials/camera").write_text("secret")
    (tmp_path / "etc/nv_tegra_release").touch()
    said: list[str] = []
    installed(tmp_path, said)
    assert "LoadCredential=camera:/etc/edgeclip/credentials/camera\n" in (drop_ins / "credentials.conf").read_text()
    assert "DeviceAllow=char-nvidia* rw" in (drop_ins / "gpu.conf").read_text()
    assert not [line for line in said if "secret" in line]
    (tmp_path / "etc/edgeclip/credentials/camera").unlink()
    installed(tmp_path, said, gpu=False)
    assert list(drop_ins.iterdir()) == []


@needs_systemd
def test_the_unit_of_a_package_is_left_to_it_and_a_copy_of_ours_makes_way(tmp_path: Path) -> None:
    said: list[str] = []
    installed(tmp_path, said)
    (tmp_path / "usr/lib/systemd/system").mkdir(parents=True)
    shutil.copy(DEPLOY / "edgeclip.service", tmp_path / "usr/lib/systemd/system")
    for name in ("sysusers", "tmpfiles"):
        (tmp_path / f"usr/lib/{name}.d").mkdir(exist_ok=True)
        shutil.copy(DEPLOY / f"{name}.conf", tmp_path / f"usr/lib/{name}.d/edgeclip.conf")
    installed(tmp_path, said, gpu=True)
    link = tmp_path / "etc/systemd/system/multi-user.target.wants/edgeclip.service"
    assert os.readlink(link).endswith("/usr/lib/systemd/system/edgeclip.service")
    assert [path.name for path in (tmp_path / "etc").rglob("*edgeclip*.conf")] == []
    assert not (tmp_path / "etc/systemd/system/edgeclip.service").exists()
    assert (tmp_path / "etc/systemd/system/edgeclip.service.d/gpu.conf").is_file()
    unit.uninstall(Place(tmp_path, say=said.append))
    assert not link.is_symlink()
    assert (tmp_path / "usr/lib/systemd/system/edgeclip.service").is_file()


@needs_systemd
def test_uninstall_takes_the_service_away_and_leaves_what_is_the_users(tmp_path: Path) -> None:
    said: list[str] = []
    installed(tmp_path, said)
    unit.uninstall(Place(tmp_path, say=said.append))
    assert not list((tmp_path / "etc/systemd/system").rglob("edgeclip*"))
    assert (tmp_path / "etc/edgeclip/edgeclip.yaml").is_file()
    said.clear()
    unit.uninstall(Place(tmp_path, say=said.append))
    assert all(line.endswith(": left") for line in said)


def test_a_dry_run_says_it_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["service", "install", "--dry-run", "--root", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path}/etc/systemd/system/edgeclip.service: written" in said
    assert f"systemctl --root={tmp_path} enable edgeclip.service" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["/home/me/venv/bin/edgeclip", "/root/.venv/bin/edgeclip", "/tmp/v/bin/edgeclip"])
def test_an_executable_that_the_service_cannot_see_is_refused(place: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="which the service cannot see") as caught:
        unit.install(Place(tmp_path, say=lambda line: None), executable=place)
    assert "/opt/edgeclip" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_executable_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="/opt/nowhere/edgeclip is not there"):
        unit.install(Place(dry_run=True, say=lambda line: None), executable="/opt/nowhere/edgeclip")


def test_a_venv_whose_python_lies_in_a_home_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `uv venv` and pyenv make them: everything is in /opt, but what it runs on."""
    scripts, home = tmp_path / "opt/edgeclip/bin", tmp_path / "home/me"
    for folder in (scripts, home):
        folder.mkdir(parents=True)
    for program in (scripts / "edgeclip", home / "python3.10"):
        program.touch(mode=0o755)
    (scripts / "python3").symlink_to(home / "python3.10")
    monkeypatch.setattr(unit, "HIDDEN", (str(tmp_path / "home"),))
    monkeypatch.setattr(unit.sysconfig, "get_path", lambda name: str(scripts))
    monkeypatch.setattr(unit.sys, "executable", str(scripts / "python3"))
    with pytest.raises(ConfigError, match=r"home/me/python3\.10 lies under") as caught:
        unit.install(Place(dry_run=True, say=lambda line: None))
    assert "/usr/bin/python3 -m venv" in caught.value.hint
    (scripts / "python3").unlink()
    (scripts / "python3").touch(mode=0o755)
    said: list[str] = []
    unit.install(Place(dry_run=True, say=said.append))
    assert [line for line in said if line.startswith("/etc/systemd/system/edgeclip.service: ")]


def test_cameras_that_are_plugged_in_get_their_names_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit.shutil, "which", lambda name: f"/usr/bin/{name}")
    said: list[str] = []
    unit.install(Place(dry_run=True, say=said.append), executable="/usr/bin/env")
    rules = next(place for place, line in enumerate(said) if line.startswith("/etc/udev/rules.d/99-edgeclip"))
    assert rules < said.index("udevadm control --reload") < said.index("udevadm trigger --subsystem-match=video4linux")


def test_an_image_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["service", "install", "--root", str(tmp_path / "imgae")]) == CONFIGURATION
    assert "imgae is no directory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_only_root_installs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(unit.os, "geteuid", lambda: 1000)
    assert main(["service", "install"]) == CONFIGURATION
    assert "sudo" in capsys.readouterr().err


# Status and logs


def answering(text: str) -> Any:
    return lambda *arguments, **options: subprocess.CompletedProcess([], 0, text, "")


def test_status_says_state_reason_and_restarts() -> None:
    facts = unit.status(
        answering(
            "LoadState=loaded\nUnitFileState=enabled\nActiveState=failed\nSubState=failed\n"
            "StatusText=failed: edgeclip.yaml:3: a=b\nResult=exit-code\nExecMainStatus=78\nNRestarts=0\n"
        )
    )
    assert unit.summary(facts) == [
        "edgeclip.service: failed (failed), enabled",
        "  failed: edgeclip.yaml:3: a=b",
        "  ended by exit-code, exit code 78",
        "  restarted 0 times",
    ]


def test_a_service_that_is_not_there_says_how_it_gets_there() -> None:
    assert "sudo edgeclip service install" in unit.summary(unit.status(answering("LoadState=not-found\n")))[0]


def test_a_system_without_systemd_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["service", "status"]) == UNAVAILABLE
    assert main(["service", "logs"]) == UNAVAILABLE


def test_a_command_that_is_not_required_may_fail_and_says_so() -> None:
    said: list[object] = []
    Place(say=said.append).run("ls", "/no/such/place", required=False)
    assert "/no/such/place" in str(said[-1])
    with pytest.raises(EdgeclipError, match="`ls /no/such/place` failed"):
        Place(say=said.append).run("ls", "/no/such/place")
