"""`edgeclip doctor` on the device as such: who may open what, whether its disk, clock and cooling are sound."""

from __future__ import annotations

import ctypes
import glob
import grp
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from edgeclip.atomic import reachable
from edgeclip.bundle import open_bundle
from edgeclip.errors import EdgeclipError
from edgeclip.runtime.backends import PLAN
from edgeclip.runtime.backends.plan_target import DeviceFacts, device_facts, mismatches
from edgeclip.runtime.board import Board
from edgeclip.runtime.thermal import STEPS

GROUPS = ("video", "render")
# What CUDA and hardware decoding open. A Jetson keeps the GPU's other nodes, as for profilers, to `debug` and root.
GPU_NODES = (
    *("/dev/nvmap", "/dev/host1x-fence"),
    *(f"/dev/nvgpu/igpu0/{name}" for name in ("power", "as", "channel", "ctrl", "tsg")),
    *(f"/dev/nvhost-{name}" for name in ("ctrl", "gpu", "as-gpu", "ctrl-gpu", "tsg-gpu", "nvdec*", "vic")),
    *("/dev/nvidia[0-9]*", "/dev/nvidiactl", "/dev/nvidia-uvm"),
)
RENDER_NODES = ("/dev/dri/renderD*",)
FSYNCS = 20
SLOW_FSYNCS_S = 10.0  # fewer a second, and events wait for their disk
OLDEST = 1767225600.0  # 2026-01-01: a clock before it was never set
NOT_SYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)

# element -> the package of Debian and Ubuntu that has it; None: it is JetPack's
ELEMENTS = {
    "appsink": "gstreamer1.0-plugins-base",
    "v4l2src": "gstreamer1.0-plugins-good",
    "rtspsrc": "gstreamer1.0-plugins-good",
    "h264parse": "gstreamer1.0-plugins-bad",
    "avdec_h264": "gstreamer1.0-libav",
}
JETSON_ELEMENTS = {"nvarguscamerasrc": None, "nvv4l2decoder": None, "nvvidconv": None}

Status = Literal["ok", "warn", "fail"]


class Check(msgspec.Struct, frozen=True):
    """status: "warn" is something this machine cannot do, "fail" keeps `edgeclip run` from working. fix: the remedy."""

    name: str
    status: Status
    detail: str
    fix: str = ""


def groups(mine: Iterable[int] | None = None, user_id: int | None = None) -> Check:
    """mine: group ids of this process. Cameras and GPUs belong to groups."""
    user_id = os.geteuid() if user_id is None else user_id
    mine = {*(os.getgroups() if mine is None else mine), os.getegid()}
    there = {name: found.gr_gid for name in GROUPS if (found := _group(name)) is not None}
    missing = [name for name, group_id in there.items() if group_id not in mine]
    if user_id == 0:
        return Check("groups", "ok", "root: may open every device; the service runs as `edgeclip`, in video and render")
    if missing:
        detail = f"this user is not in {' and '.join(missing)}: their devices cannot be opened"
        return Check("groups", "warn", detail, f'sudo usermod -aG {",".join(missing)} "$USER", then log in again')
    return Check("groups", "ok", f"in {' and '.join(there) or 'none that matters: there is neither video nor render'}")


def device_nodes(find: Callable[[str], Sequence[str]] = glob.glob) -> list[Check]:
    """NVIDIA's and render nodes, where there are any."""
    checks = []
    for name, patterns in (("nvidia devices", GPU_NODES), ("render nodes", RENDER_NODES)):
        nodes = sorted(node for pattern in patterns for node in find(pattern))
        closed = [node for node in nodes if not os.access(node, os.R_OK | os.W_OK)]
        if closed:
            owners = sorted({_owner(node) for node in closed} - {"root"})
            fix = f'sudo usermod -aG {",".join(owners)} "$USER", then log in again'
            if not owners:
                fix = (
                    "they are root's alone, as before their udev rules were applied: sudo udevadm trigger, or a reboot"
                )
            checks.append(Check(name, "warn", f"{', '.join(closed)}: permission denied", fix))
        elif nodes:
            checks.append(Check(name, "ok", f"{len(nodes)} may be opened: {', '.join(nodes[:4])}"))
    return checks


def gstreamer_plugins(used: bool, jetson: bool, has: Callable[[str], bool] | None = None) -> Check:
    """used: OpenCV runs GStreamer pipelines. has(element): whether it is installed; None asks gst-inspect-1.0."""
    name = "gstreamer plugins"
    if not used:
        return Check(name, "ok", "not needed: this OpenCV runs no GStreamer pipelines")
    if has is None:
        if not shutil.which("gst-inspect-1.0"):
            return Check(name, "warn", "gst-inspect-1.0 is not here to ask", "sudo apt install gstreamer1.0-tools")
        has = _has_element
    wanted: dict[str, str | None] = {**ELEMENTS, **(JETSON_ELEMENTS if jetson else {})}
    missing = [element for element in wanted if not has(element)]
    if not missing:
        return Check(name, "ok", f"all there: {', '.join(wanted)}")
    packages = sorted({package for element in missing if (package := wanted[element]) is not None})
    remedies = [f"sudo apt install {' '.join(packages)}"] if packages else []
    if any(wanted[element] is None for element in missing):
        remedies.append("sudo apt install nvidia-l4t-gstreamer (JetPack)")
    return Check(name, "warn", f"missing: {', '.join(missing)}", ", and ".join(remedies))


def disk(folder: Path) -> Check:
    """How often a second data reach the disk for good, where events are kept. The file it tries with is unnamed."""
    there = reachable(folder)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            began_s = time.perf_counter()
            for _ in range(FSYNCS):
                file.write(b"\0" * 4096)
                file.flush()
                os.fsync(file.fileno())
            rate = FSYNCS / (time.perf_counter() - began_s)
    except OSError as error:
        detail = f"{there} cannot be written: {error.strerror}"
        return Check("disk", "warn", detail, "set EDGECLIP_STATE to a directory of yours")
    detail = f"{there}: {rate:.0f} fsyncs a second"
    if rate < SLOW_FSYNCS_S:
        return Check("disk", "warn", f"{detail}, so that events wait for it", "use an SSD, or a better SD card")
    return Check("disk", "ok", detail)


def clock(now_s: float | None = None, synchronised: bool | None = None) -> Check:
    """Events carry its time, and TLS and signatures need a sane year."""
    now_s = time.time() if now_s is None else now_s
    synchronised = _synchronised() if synchronised is None else synchronised
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now_s))
    fix = "sudo timedatectl set-ntp true, or install chrony; without a network, add a battery to its clock"
    if now_s < OLDEST:
        return Check("clock", "warn", f"{shown}: it was never set, and TLS will refuse every certificate", fix)
    if not synchronised:
        return Check("clock", "warn", f"{shown}, and nothing keeps it right: events may carry a wrong time", fix)
    return Check("clock", "ok", f"{shown}, synchronised")


def cooling(board: Board | None = None) -> Check:
    """Temperature, its limit, and whether the board throttles at this moment."""
    reading = (board or Board()).read()
    power = f", {reading.power_w:.1f} W" if reading.power_w is not None else ""
    fix = "give it a fan, a larger heat sink, or shade; or lower --fps"
    if reading.throttled:
        return Check("cooling", "warn", f"it throttles at this moment: {', '.join(reading.throttled)}{power}", fix)
    hottest = reading.hottest
    if hottest is None:
        return Check("cooling", "ok", f"no temperature is reported here{power}")
    detail = f"{hottest.name} {hottest.temperature_c:.0f} °C"
    near = [
        zone for zone in reading.zones if zone.passive_c and zone.passive_c - zone.temperature_c <= STEPS[0].below_c
    ]
    if near:
        limit = f"{near[0].name} {near[0].temperature_c:.0f} °C throttles at {near[0].passive_c:.0f} °C"
        return Check("cooling", "warn", f"{limit}: the frame rate is lowered before{power}", fix)
    return Check("cooling", "ok", f"{detail}{power}")


def plans(bundles: Iterable[Path], facts: Callable[[str], DeviceFacts] = device_facts) -> list[Check]:
    """The TensorRT plans of each bundle against the TensorRT, GPU and JetPack that are here."""
    checks = []
    for path in bundles:
        try:
            bundle = open_bundle(path)
        except EdgeclipError as error:
            checks.append(Check(f"{path.name} (plans)", "warn", error.message, error.hint))
            continue
        for entry in bundle.manifest.engines:
            if entry.format != PLAN:
                continue
            wrong = mismatches(entry.target, facts(entry.target.runtime))
            name = f"{path.name}/{entry.file}"
            if wrong:
                checks.append(Check(name, "warn", "; ".join(wrong), f"edgeclip compile {path}"))
            else:
                made_for = " ".join(filter(None, msgspec.structs.astuple(entry.target)))
                checks.append(Check(name, "ok", f"for {made_for}: nothing here speaks against it"))
    return checks


def installed_bundles(state: Path) -> list[Path]:
    """Bundles in the store of a state directory; none where there is no store."""
    folder = state / "bundles"
    try:
        found = sorted(path for path in folder.iterdir() if (path / "manifest.json").is_file())
    except OSError:
        return []
    return list({path.resolve(): path.resolve() for path in found})  # `current` and `previous` are links to them


def ownership(folder: Path) -> list[Check]:
    """What somebody else wrote into a state directory, as root by hand, stops the service whose it is."""
    try:
        owner = folder.stat().st_uid
        strange = sorted(path.name for path in folder.iterdir() if path.lstat().st_uid != owner)
    except OSError:
        return []
    if not strange:
        return []
    detail = f"{folder}: {', '.join(strange)}: of another owner than the directory, whose service cannot write there"
    return [Check("state", "warn", detail, f"sudo chown -R --reference={folder} {folder}")]


def _group(name: str) -> grp.struct_group | None:
    try:
        return grp.getgrnam(name)
    except KeyError:
        return None


def _owner(node: str) -> str:
    try:
        return grp.getgrgid(os.stat(node).st_gid).gr_name
    except (OSError, KeyError):
        return "video"


def _has_element(element: str) -> bool:
    done = subprocess.run(["gst-inspect-1.0", "--exists", element], capture_output=True, check=False, timeout=30)
    return done.returncode == 0


def _synchronised() -> bool:
    """As the kernel sees it, whoever keeps the time: adjtimex(2) with nothing to set."""
    timex = ctypes.create_string_buffer(512)
    result: int = ctypes.CDLL(None).adjtimex(timex)
    return result not in (-1, NOT_SYNCHRONISED)
