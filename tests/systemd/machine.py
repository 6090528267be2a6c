"""A machine to test the service on: the real systemd, in namespaces of its own, over a copy of this system."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).resolve().parent
SYSTEMD = Path("/lib/systemd/systemd")
OTHER = os.environ.get("EDGECLIP_TEST_SYSTEMD", "")  # a folder that fetch.sh made, to boot instead of this system's


def cannot() -> str:
    """Why there can be no such machine here; "" where there can."""
    if os.geteuid() != 0:
        return "needs root (namespaces, overlay)"
    for tool in ("unshare", "nsenter", "chroot", "systemctl", "journalctl", "systemd-sysusers"):
        if not shutil.which(tool):
            return f"needs {tool} (apt-get install systemd util-linux)"
    if not SYSTEMD.exists():
        return "needs systemd (apt-get install systemd)"
    if not any(line.split()[2] == "cgroup2" for line in Path("/proc/self/mounts").read_text().splitlines()):
        return "needs a cgroup2 hierarchy"
    probe = "mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w /mnt/m && mount -t overlay overlay -o "
    probe += "lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w /mnt/m && mount -t cgroup2 cgroup2 /mnt/m"
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--cgroup", "--fork", "sh", "-c", probe],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else f"this kernel or container does not let us: {done.stderr.strip()}"


def _own_cgroup() -> Path:
    """Of this process, in the unified hierarchy."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    root = next(Path(mount[1]) for mount in mounts if mount[2] == "cgroup2")
    path = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    return root / path.lstrip("/")


class Machine:
    """Use as a context manager. run("systemctl", ...) acts inside; write() puts a file there."""

    def __init__(self) -> None:
        self._work = Path(tempfile.mkdtemp(prefix="edgeclip-systemd-"))
        self._pid = 0
        self._seen: tuple[str, ...] = ()
        self._cgroup = _own_cgroup() / self._work.name  # so that it never touches the groups of this system

    def __enter__(self) -> Machine:
        site = sysconfig.get_paths()["purelib"]
        log = (self._work.parent / f"{self._work.name}.log").open("w+")
        self._log = log
        self._cgroup.mkdir()
        self._process = subprocess.Popen(
            [
                *("sh", "-c", f'echo $$ > {self._cgroup}/cgroup.procs; exec "$@"', "sh"),
                "unshare", "--mount", "--pid", "--cgroup", "--ipc", "--uts", "--fork", "--kill-child",
                str(HERE / "boot.sh"), str(self._work), str(HERE.parent.parent), sys.base_prefix, site,
                OTHER,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.wait(self._booted, 30.0, "systemd did not come up")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.kill()  # and PID 1 of the namespace with it, and so all that runs there
        self._process.wait()
        self._log.close()
        Path(self._log.name).unlink()
        self._work.rmdir()
        self._remove_cgroup()

    def _remove_cgroup(self) -> None:
        end_s = time.monotonic() + 5.0
        while self._cgroup.exists() and time.monotonic() < end_s:  # what was killed takes a moment to be gone
            for folder in sorted(self._cgroup.rglob("*/"), key=lambda path: -len(path.parts)):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            with contextlib.suppress(OSError):
                self._cgroup.rmdir()
            time.sleep(0.05)

    def _booted(self) -> bool:
        if self._process.poll() is not None:
            self._log.seek(0)
            raise AssertionError(f"the machine stopped: {self._log.read()[-2000:]}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children or "systemd" not in Path(f"/proc/{children[0]}/comm").read_text():
            return False
        self._pid = int(children[0])
        return self.run("systemctl", "is-active", "systemd-journald.service", check=False).strip() == "active"

    def run(self, *command: str, check: bool = True) -> str:
        """Standard output and error of a command inside."""
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--pid", "--cgroup", "--ipc", "--root"]
        inside = ["/usr/bin/env", "-i", "--chdir=/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *command]
        done = subprocess.run(
            [*enter, *inside], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}"
        return done.stdout

    def file(self, path: str) -> Path:
        return Path(f"/proc/{self._pid}/root") / path.lstrip("/")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def property(self, name: str, unit: str = "edgeclip.service") -> str:
        return self.run("systemctl", "show", unit, f"--property={name}", "--value").strip()

    def journal(self, *arguments: str) -> str:
        """What was said of the service since forget()."""
        self.run("journalctl", "--sync", check=False)
        unit = ("--unit=edgeclip.service", "--no-pager", *self._seen)
        return self.run("journalctl", *unit, *arguments, check=False)

    def forget(self) -> None:
        self.run("journalctl", "--sync", check=False)
        shown = self.run("journalctl", "--lines=1", "--show-cursor", "--no-pager", "--quiet")
        self._seen = (f"--after-cursor={shown.rpartition('-- cursor: ')[2].strip()}",)

    def wait(self, condition: Callable[[], bool], limit_s: float, complaint: str) -> float:
        """Seconds until it held."""
        began_s = time.monotonic()
        while not condition():
            if time.monotonic() - began_s > limit_s:
                shown = ""
                if self._pid:
                    shown = self.run("systemctl", "status", "edgeclip.service", check=False) + self.journal()[-3000:]
                raise AssertionError(f"{complaint} within {limit_s} s\n{shown}")
            time.sleep(0.02)
        return time.monotonic() - began_s
