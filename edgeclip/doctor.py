"""What this machine can and cannot do with edgeclip, and how to mend it. Looks and tries; changes nothing."""

from __future__ import annotations

import glob
import importlib
import importlib.util
import os
import platform
import re
import shutil
import sys
from pathlib import Path

import msgspec
import numpy as np

from edgeclip import device
from edgeclip.atomic import reachable
from edgeclip.bundle import Bundle, EngineEntry, open_bundle
from edgeclip.bundles import policy, signers
from edgeclip.device import Check
from edgeclip.errors import EdgeclipError
from edgeclip.install import check
from edgeclip.runtime.backends import PLAN, Backend, candidates, default_threads
from edgeclip.runtime.backends.plan_target import gpu_arch
from edgeclip.runtime.backends.plan_target import version as version_of
from edgeclip.runtime.backends.trt_library import INSTALL, RTX, TENSORRT
from edgeclip.runtime.text_cache import default_cache_dir
from edgeclip.state import store_path
from edgeclip.store import CURRENT, Store
from edgeclip.trial import Trial, try_engine

PYTHONS = ((3, 10), (3, 13))
TEGRA = Path("/etc/nv_tegra_release")  # present on Jetson
NVIDIA_DEVICES = ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvgpu/igpu0/ctrl")
PIPELINES = "csi, gst"
ENOUGH_DISK_MB = 100.0
ENOUGH_MEMORY_MB = 300.0


def diagnose(bundle: str | Path | None = None) -> list[Check]:
    """Every check, in the order they are read best. bundle: None for the one that comes with edgeclip.

    Each engine of the bundle runs its golden frames on each runtime that can take it, in a process of its own.
    """
    pictures = opencv()
    pipelines = any(check.name == PIPELINES and check.status == "ok" for check in pictures)
    checks = [python(), *pictures, device.gstreamer_plugins(pipelines, TEGRA.exists())]
    checks += [*cameras(), demo(), device.groups(), *device.device_nodes()]
    try:
        opened = open_bundle(bundle)
    except EdgeclipError as error:
        checks.append(Check("bundle", "fail", error.message, error.hint))
    else:
        manifest = opened.manifest
        height, width = manifest.preprocess.size
        detail = (
            f"{manifest.name}: {width}x{height} pixels to {manifest.dim} dimensions, {len(manifest.engines)} engines"
        )
        checks.append(Check("bundle", "ok", f"{detail}, {opened.origin}"))
        checks += engines(opened)
    state = store_path().parent
    checks += [*bundle_in_force(), *device.plans(device.installed_bundles(state)), *device.ownership(state)]
    return [
        *(*checks, tensorrt(), tensorrt_rtx(), cache(), device.disk(state)),
        *(device.clock(), device.cooling(), processor()),
    ]


def bundle_in_force() -> list[Check]:
    """Of the store, where there is one: whole, and still signed as the configuration wants it. Keys are deleted, and
    cards rot, after a bundle was installed."""
    name, into = "bundle in force", Store(store_path())
    current = into.target(CURRENT)
    if current is None:
        return []
    try:
        checked = check(into.path / current, policy(None))
    except EdgeclipError as error:
        fix = error.hint or "see `edgeclip bundle list`"
        return [Check(name, "warn", error.message, f"{fix}; or install another: edgeclip bundle install FILE")]
    return [Check(name, "ok", f"{current}, whole, {signers(checked.signed)}")]


def python() -> Check:
    name = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    low, high = PYTHONS
    if low <= sys.version_info[:2] <= high:
        return Check("python", "ok", name)
    wanted = f"{low[0]}.{low[1]} to {high[0]}.{high[1]}"
    return Check("python", "warn", f"{name}; edgeclip is tested on {wanted}", f"use Python {wanted}")


def opencv() -> list[Check]:
    """OpenCV and what it was built with. A system's OpenCV may not even load beside another NumPy."""
    try:
        import cv2
    except ImportError as error:
        fix = "pip install --force-reinstall opencv-python-headless; a system's OpenCV may need 'numpy<2'"
        return [Check("opencv", "fail", f"NumPy {np.__version__}; OpenCV cannot be loaded: {error}", fix)]
    build = cv2.getBuildInformation()
    return [
        Check("opencv", "ok", f"NumPy {np.__version__}, OpenCV {cv2.__version__} ({Path(cv2.__file__).parent})"),
        ffmpeg(build),
        gstreamer(build),
    ]


def ffmpeg(build: str) -> Check:
    """build: cv2.getBuildInformation()."""
    if re.search(r"FFMPEG:\s+YES", build):
        return Check("files, rtsp, http", "ok", "OpenCV reads them through FFmpeg")
    detail = "this OpenCV is built without FFmpeg: video files and network streams cannot be read"
    fix = "pip install --force-reinstall opencv-python-headless, or use gst: sources"
    return Check("files, rtsp, http", "warn", detail, fix)


def gstreamer(build: str) -> Check:
    """build: cv2.getBuildInformation()."""
    if re.search(r"GStreamer:\s+YES", build):
        return Check(PIPELINES, "ok", "OpenCV runs GStreamer pipelines")
    detail = "this OpenCV is built without GStreamer: no csi:// cameras, no hardware decoding"
    fix = (
        "use the system's OpenCV (JetPack brings it; else apt install python3-opencv): "
        "python3 -m venv --system-site-packages, then pip uninstall opencv-python-headless in it"
    )
    return Check(PIPELINES, "warn", detail, fix)


def cameras() -> list[Check]:
    paths = sorted(glob.glob("/dev/video*"))
    if not paths:
        return [Check("camera", "warn", "no /dev/video*: no camera is attached", "attach one, or use another source")]
    return [camera(path) for path in paths]


def camera(path: str) -> Check:
    if os.access(path, os.R_OK | os.W_OK):
        return Check(path, "ok", "may be read")
    fix = 'sudo usermod -aG video "$USER", then log in again'
    return Check(path, "warn", "permission denied", fix)


def demo() -> Check:
    if importlib.util.find_spec("skimage") is not None:
        return Check("demo", "ok", "the demo source has its photographs")
    return Check("demo", "warn", "the photographs of the demo source are not installed", "pip install 'edgeclip[demo]'")


def engines(bundle: Bundle) -> list[Check]:
    """One check per role, engine file and runtime; where a role runs nowhere, one more that fails."""
    roles = ("image",) if bundle.manifest.text.bank is not None else ("image", "text")
    return [check for role in roles for check in engines_of(bundle, role)]


def engines_of(bundle: Bundle, role: str) -> list[Check]:
    """The checks of one role."""
    checks: list[Check] = []
    trials: list[tuple[EngineEntry, Backend, Trial]] = []
    for entry in bundle.engines(role):
        backends, refused = candidates(entry)
        trials += [(entry, backend, try_engine(bundle, entry, backend)) for backend in backends]
        if not backends:
            checks.append(Check(entry.file, "warn", refused[0]))
    works = any(not trial.error for _, _, trial in trials)
    checks += [engine(entry, backend, trial, works) for entry, backend, trial in trials]
    if not works:
        use = "every frame needs one" if role == "image" else "new labels need one"
        remedies = dict.fromkeys(check.fix for check in checks if check.fix)
        checks.append(Check(f"{role} engines", "fail", f"none runs here, and {use}", " or ".join(remedies)))
    return checks


def engine(entry: EngineEntry, backend: Backend, trial: Trial, spare: bool) -> Check:
    """spare: something else runs this role."""
    name = f"{entry.file} on {backend.name}"
    made_for = f"for {' '.join(filter(None, msgspec.structs.astuple(entry.target)))}: " if entry.format == PLAN else ""
    if trial.missing:
        detail = made_for + trial.error if entry.format == PLAN else "not installed"
        detail += ", and not needed: another runs" if spare else ""
        return Check(name, "ok" if spare else "warn", detail, backend.install)
    if trial.error:
        return Check(name, "warn", made_for + trial.error, trial.hint)
    detail = f"{made_for}{entry.precision}, {trial.latency_ms:.2f} ms, {trial.runtime}"
    if trial.min_cosine is not None:
        detail += f", golden cosine {trial.min_cosine:.4f} (mean-centred {trial.centred:.4f})"
    return Check(name, "ok", detail)


def tensorrt() -> Check:
    """The GPU's half: what is there of it. Plan engines need it, nothing else does."""
    system = TEGRA.read_text(errors="replace").splitlines()[0].strip("# ") if TEGRA.exists() else ""
    gpu = next((path for path in NVIDIA_DEVICES if os.path.exists(path)), "")
    if not gpu and not system:
        return Check("tensorrt", "ok", "no NVIDIA GPU here: engines run on the processor")
    where = f"Jetson, {system}" if system else f"NVIDIA GPU ({gpu})"
    try:
        version = importlib.import_module("tensorrt").__version__
    except ImportError as error:
        return Check("tensorrt", "warn", f"{where}, but TensorRT cannot be imported: {error}", INSTALL[TENSORRT])
    arch = gpu_arch() or "its driver does not answer"
    return Check("tensorrt", "ok", f"{where} ({arch}), TensorRT {version}: compiles and runs plans")


def tensorrt_rtx() -> Check:
    """Not needed anywhere; it compiles ahead of time for RTX GPUs, and runs what it compiled on them."""
    found = version_of(RTX)
    if not found:
        return Check("tensorrt-rtx", "ok", f"not installed: no plans for RTX GPUs; {INSTALL[RTX]} brings it")
    runs = "compiles and runs plans" if gpu_arch() else "compiles plans ahead of time; running them takes an RTX GPU"
    return Check("tensorrt-rtx", "ok", f"TensorRT-RTX {found}: {runs}")


def cache() -> Check:
    directory = default_cache_dir()
    if directory is None:
        return Check(
            "cache", "warn", "no home directory: text embeddings are not kept", "set EDGECLIP_CACHE=/some/where"
        )
    there = reachable(directory)
    if not os.access(there, os.W_OK | os.X_OK):
        detail = f"{directory} cannot be written: labels are embedded anew at every start"
        return Check("cache", "warn", detail, "set EDGECLIP_CACHE to a directory of yours")
    free_mb = shutil.disk_usage(there).free / 1e6
    if free_mb < ENOUGH_DISK_MB:
        return Check("cache", "warn", f"{directory}: {free_mb:.0f} MB left on its disk", "make room")
    return Check("cache", "ok", f"{directory}, {free_mb / 1e3:.1f} GB left")


def processor() -> Check:
    cores = len(os.sched_getaffinity(0))
    detail = f"{cores} cores for this process, {default_threads()} for an engine by default"
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    if found is None:
        return Check("processor, memory", "ok", detail)
    free_mb = int(found[1]) / 1e3
    detail += f", {free_mb:.0f} MB of memory available"
    if free_mb < ENOUGH_MEMORY_MB:
        return Check("processor, memory", "warn", detail, "stop what else runs here, or use a smaller bundle")
    return Check("processor, memory", "ok", detail)
