"""The systemd service: puts its files in their places, or takes them away. Says each step; safe to repeat."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeclip.atomic import atomic_write
from edgeclip.errors import UNAVAILABLE, ConfigError, EdgeclipError

NAME = "edgeclip.service"
EXECUTABLE = "/opt/edgeclip/bin/edgeclip"  # what the unit names, and what an image has
SYSTEM = "etc/systemd/system"
PACKAGED = f"usr/lib/systemd/system/{NAME}"  # the .deb's
CREDENTIALS = "etc/edgeclip/credentials"
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # the unit sees none of these
GPU_SIGNS = ("dev/nvidiactl", "dev/nvhost-gpu", "dev/nvgpu", "etc/nv_tegra_release")

# ours -> its place. What a user edits is never written over.
FILES = {
    "edgeclip.service": f"{SYSTEM}/{NAME}",
    "sysusers.conf": "etc/sysusers.d/edgeclip.conf",
    "tmpfiles.conf": "etc/tmpfiles.d/edgeclip.conf",
}
KEPT = {
    "edgeclip.yaml": "etc/edgeclip/edgeclip.yaml",
    "99-edgeclip-cameras.rules": "etc/udev/rules.d/99-edgeclip-cameras.rules",
}
DROP_INS = {"gpu": f"{SYSTEM}/{NAME}.d/gpu.conf", "credentials": f"{SYSTEM}/{NAME}.d/credentials.conf"}

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Place:
    """root: of the system or of an image. dry_run: say what would be done, and do nothing."""

    root: Path = Path("/")
    dry_run: bool = False
    say: Say = print

    @property
    def image(self) -> bool:
        return self.root.resolve() != Path("/")

    def file(self, name: str) -> Path:
        return self.root / name

    def write(self, name: str, text: str, *, keep: bool = False) -> None:
        """keep: one that is there stays as it is."""
        path = self.file(name)
        there = path.read_text() if path.is_file() else None
        if there == text or (keep and there is not None):
            self.say(f"{path}: {'unchanged' if there == text else 'yours, left as it is'}")
            return
        self.say(f"{path}: {'written' if there is None else 'replaced'}")
        if not self.dry_run:
            with atomic_write(path, "w") as stream:
                stream.write(text)

    def remove(self, name: str) -> None:
        path = self.file(name)
        if path.is_file():
            self.say(f"{path}: removed")
            if not self.dry_run:
                path.unlink()

    def run(self, *command: str, required: bool = True) -> None:
        """A command of systemd's; raises EdgeclipError with what it said. required: else its failure is only said."""
        self.say(" ".join(command))
        if self.dry_run:
            return
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise EdgeclipError(
                f"{command[0]} is not here: this system has no systemd",
                "run `edgeclip run --config FILE` under its own service manager",
                UNAVAILABLE,
            ) from error
        if done.returncode != 0:
            failed = f"`{' '.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}"
            if required:
                raise EdgeclipError(failed, "mend that, then give the same command again", UNAVAILABLE)
            self.say(failed)


def deploy_file(name: str) -> Path:
    """A file of deploy/: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "deploy"
    return (inside if inside.is_dir() else package.parent / "deploy") / name


def install(place: Place, *, executable: str | None = None, gpu: bool | None = None, now: bool = False) -> None:
    """executable: of edgeclip, as the unit will see it; None: this one, or in an image EXECUTABLE.
    gpu: give the unit access to NVIDIA devices; None: where there are any. now: start it too.

    Raises ConfigError where the unit could not see or find the executable, the image is not there, or root is needed.
    """
    _may(place)
    if executable is None:
        executable = EXECUTABLE if place.image else _this_executable()
    elif not place.image:
        _check_there(executable)
    _check_seen(executable)
    unit = deploy_file("edgeclip.service").read_text().replace(f"ExecStart={EXECUTABLE}", f"ExecStart={executable}")
    root = (f"--root={place.root.resolve()}",) if place.image else ()
    if place.file(PACKAGED).is_file() and executable == EXECUTABLE:
        _leave_to_the_package(place, root)
    else:
        for name, target in FILES.items():
            place.write(target, unit if target.endswith(NAME) else deploy_file(name).read_text())
    for name, target in KEPT.items():
        place.write(target, deploy_file(name).read_text(), keep=True)
    if gpu is None:
        gpu = any(place.file(sign).exists() for sign in GPU_SIGNS)
    if gpu:
        place.write(DROP_INS["gpu"], deploy_file("edgeclip-gpu.conf").read_text())
    else:
        place.remove(DROP_INS["gpu"])
    credentials = _credentials(place.file(CREDENTIALS))
    if credentials:
        place.write(DROP_INS["credentials"], credentials_drop_in(credentials))
    else:
        place.remove(DROP_INS["credentials"])
    place.run("systemd-sysusers", *root, Path(FILES["sysusers.conf"]).name)  # below the root, wherever it lies there
    place.run("systemd-tmpfiles", *root, "--create", Path(FILES["tmpfiles.conf"]).name)
    if not place.image:
        if shutil.which("udevadm"):  # both may fail where no udevd is, as in a container: no cameras' names there
            place.run("udevadm", "control", "--reload", required=False)
            place.run("udevadm", "trigger", "--subsystem-match=video4linux", required=False)  # for what is plugged in
        place.run("systemctl", "daemon-reload")
    place.run("systemctl", *root, "enable", NAME)
    if now and not place.image:
        place.run("systemctl", "restart", "--no-block", NAME)


def _leave_to_the_package(place: Place, root: Sequence[str]) -> None:
    """The .deb brings the unit, and its next version: files of an earlier `install` would hide them."""
    place.say(f"{place.file(PACKAGED)}: the package's, left as it is")
    if place.file(FILES["edgeclip.service"]).exists():
        place.run("systemctl", *root, "disable", NAME)  # its link leads to the file that goes
    for target in FILES.values():
        place.remove(target)


def uninstall(place: Place) -> None:
    """Configuration, credentials, state and the user stay, and what a package brought."""
    _may(place)
    installed = any(place.file(unit).exists() for unit in (FILES["edgeclip.service"], PACKAGED))
    root = (f"--root={place.root.resolve()}",) if place.image else ()
    if installed:
        place.run("systemctl", *root, "disable", *(() if place.image else ("--now",)), NAME)
    for target in (*FILES.values(), *DROP_INS.values()):
        place.remove(target)
    drop_ins = place.file(f"{SYSTEM}/{NAME}.d")
    if not place.dry_run and drop_ins.is_dir() and not any(drop_ins.iterdir()):
        drop_ins.rmdir()
    if installed and not place.image:
        place.run("systemctl", "daemon-reload")
    for kept in (PACKAGED, *KEPT.values(), "var/lib/edgeclip", "var/cache/edgeclip"):
        if place.file(kept).exists():
            place.say(f"{place.file(kept)}: left")


def status(run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run) -> dict[str, str]:
    """What systemd knows of the service: systemctl show(1)'s properties, by their names."""
    properties = (
        "LoadState,UnitFileState,ActiveState,SubState,StatusText,Result,ExecMainStatus,NRestarts,MainPID,"
        "ActiveEnterTimestamp,MemoryCurrent"
    )
    try:
        done = run(["systemctl", "show", NAME, f"--property={properties}"], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise EdgeclipError("systemctl is not here: this system has no systemd", "", UNAVAILABLE) from error
    if done.returncode != 0:
        raise EdgeclipError(f"systemctl does not answer: {done.stderr.strip()}", "is systemd running?", UNAVAILABLE)
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {name: value for name, _, value in pairs if name}


def summary(facts: Mapping[str, str]) -> list[str]:
    """Lines for people."""
    if facts.get("LoadState") == "not-found":
        return ["edgeclip.service: not installed (sudo edgeclip service install)"]
    state = f"{facts.get('ActiveState', 'unknown')} ({facts.get('SubState', '')})"
    since = f" since {facts['ActiveEnterTimestamp']}" if facts.get("ActiveEnterTimestamp") else ""
    lines = [f"edgeclip.service: {state}{since}, {facts.get('UnitFileState') or 'not enabled'}"]
    if facts.get("StatusText"):
        lines.append(f"  {facts['StatusText']}")
    if facts.get("Result", "success") != "success":
        lines.append(f"  ended by {facts['Result']}, exit code {facts.get('ExecMainStatus', '?')}")
    lines.append(f"  restarted {facts.get('NRestarts', '0')} times")
    return lines


def logs_command(lines: int, follow: bool) -> list[str]:
    return ["journalctl", f"--unit={NAME}", f"--lines={lines}", *(("--follow",) if follow else ("--no-pager",))]


def credentials_drop_in(names: Sequence[str]) -> str:
    """Each file of /etc/edgeclip/credentials by name: systemd 249 cannot load a directory."""
    lines = [f"LoadCredential={name}:/{CREDENTIALS}/{name}" for name in names]
    return "\n".join(["# Written by `edgeclip service install`, one line a file.", "[Service]", *lines, ""])


def _credentials(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def _may(place: Place) -> None:
    if not place.root.is_dir():
        raise ConfigError(f"{place.root} is no directory", "--root is the top of an image, where its etc/ and usr/ are")
    if not place.dry_run and not place.image and os.geteuid() != 0:
        raise ConfigError("a service is installed by root", "sudo edgeclip service ..., or --dry-run, or --root DIR")


def _this_executable() -> str:
    """Of this very edgeclip. Raises ConfigError where it, its interpreter or its code could not be seen: a venv in /opt
    may link to a Python in somebody's home."""
    executable = str(Path(sysconfig.get_path("scripts")) / "edgeclip")
    _check_there(executable)
    for needed in (executable, sys.executable, __file__):
        _check_seen(needed)
        _check_seen(str(Path(needed).resolve()))
    return executable


def _check_there(executable: str) -> None:
    if not os.access(executable, os.X_OK):
        raise ConfigError(f"{executable} is not there, or is no program", "--exec PATH says where edgeclip's is")


def _check_seen(path: str) -> None:
    hidden = next((place for place in HIDDEN if path.startswith(f"{place}/")), None)
    if hidden:
        raise ConfigError(
            f"{path} lies under {hidden}, which the service cannot see (ProtectHome, PrivateTmp)",
            "install edgeclip into /opt, with the system's Python: sudo /usr/bin/python3 -m venv /opt/edgeclip && "
            "sudo /opt/edgeclip/bin/pip install edgeclip",
        )
