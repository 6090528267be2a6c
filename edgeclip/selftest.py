"""The golden frames in a process of its own, with limits: a bundle from elsewhere may hang, crash or eat the memory.

`python -m edgeclip.selftest DIRECTORY` is that process; self_test() starts it and watches it.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from edgeclip.errors import UNAVAILABLE, DataError, EdgeclipError

LOOK_S = 0.02


@dataclass(frozen=True)
class Limits:
    """timeout_s: until it is done. memory_mb: resident, of the process."""

    timeout_s: float = 120.0
    memory_mb: int = 2048


class Passed(msgspec.Struct, frozen=True):
    """runtime: what ran the image engine. min_cosine: of the golden frames to the float model's embeddings."""

    runtime: str
    frames: int
    min_cosine: float
    seconds: float = 0.0
    peak_mb: int = 0


class Failed(msgspec.Struct, frozen=True):
    """What the process says where it refuses the bundle."""

    error: str
    hint: str


def self_test(directory: Path, limits: Limits | None = None) -> Passed:
    """directory: in the store of a state directory.

    Raises DataError with what went wrong: the engine's own message, the signal it died of, a limit.
    """
    limits = limits or Limits()
    with tempfile.TemporaryFile() as said:
        began_s, peak_mb = time.monotonic(), 0
        child = _started(directory, said)
        try:
            while child.poll() is None:
                elapsed_s, peak_mb = time.monotonic() - began_s, max(peak_mb, _resident_mb(child.pid))
                if elapsed_s > limits.timeout_s:
                    raise _failed(f"it was not done after {limits.timeout_s:g} s")
                if peak_mb > limits.memory_mb:
                    raise _failed(f"it took {peak_mb} MB of memory, and may take {limits.memory_mb}")
                time.sleep(LOOK_S)
        finally:
            child.kill()
            child.wait()
        said.seek(0)
        lines = said.read(1 << 20).decode("utf-8", "replace").strip().splitlines() or [""]
    if child.returncode < 0:
        raise _failed(f"it died of {signal.Signals(-child.returncode).name}")
    try:
        if child.returncode == 0:
            passed = msgspec.json.decode(lines[-1], type=Passed)
            return msgspec.structs.replace(passed, seconds=round(time.monotonic() - began_s, 3), peak_mb=peak_mb)
        failed = msgspec.json.decode(lines[-1], type=Failed)
    except msgspec.DecodeError as error:
        raise _failed(lines[-1]) from error
    where = str(directory)  # a name that nobody gave it, and that is gone when this is read
    why = failed.error.replace(f"bundle {where}", "the bundle").replace(where, "the bundle")
    raise _failed(why, failed.hint.replace(where, "BUNDLE"))


def _started(directory: Path, said: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edgeclip.selftest", str(directory), str(os.getpid())]
    who = _as_owner(directory)
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, **who)
    except PermissionError as error:
        raise EdgeclipError(
            f"user {who.get('user')}, whose the state directory is, may not run {sys.executable}",
            "use the edgeclip of the service, as in /opt/edgeclip/bin",
            UNAVAILABLE,
        ) from error


def _as_owner(directory: Path) -> dict[str, Any]:
    """What makes root's child the user who will run the bundle, that of the state directory: nobody else's engine files
    are to be read by root, and what that user may not open, as a GPU, is to be found out now."""
    owner = directory.parent.parent.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return {}
    try:
        groups = os.getgrouplist(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)
    except KeyError:  # a user without a name, as in a container
        groups = [owner.st_gid]
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": groups}


def _failed(why: str, hint: str = "") -> DataError:
    why = why.removeprefix("self-test: ")
    return DataError(f"the self-test on this device failed: {why}", hint or "see `edgeclip doctor`")


def _resident_mb(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
    except (OSError, IndexError):  # it has just ended
        return 0


def _child(directory: Path) -> Passed:
    from edgeclip.bundle import open_bundle
    from edgeclip.runtime.backends import load_engine
    from edgeclip.runtime.frames import load_frames
    from edgeclip.runtime.golden import check_golden

    bundle = open_bundle(directory)
    load_frames(bundle)
    engine = load_engine(bundle, "image", threads=1)
    result = check_golden(engine, bundle)
    if bundle.engines("text"):
        load_engine(bundle, "text", threads=1)
    return Passed(engine.runtime, result.frames, round(result.min_cosine, 6))


def _end_with(parent: int) -> None:
    """This process is killed when `parent` ends, however that is (prctl(2), PR_SET_PDEATHSIG)."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main() -> int:
    import resource

    _end_with(int(sys.argv[2]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        outcome: Passed | Failed = _child(Path(sys.argv[1]))
    except EdgeclipError as error:
        outcome = Failed(error.message, error.hint)
    os.write(1, b"\n" + msgspec.json.encode(outcome) + b"\n")
    return 0 if isinstance(outcome, Passed) else 1


if __name__ == "__main__":
    sys.exit(main())
