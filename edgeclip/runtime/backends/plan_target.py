"""Whether a TensorRT plan was compiled for this device. Pure logic over facts; a plan that was not must not be loaded.

A plan holds machine code: it runs on the TensorRT that wrote it, on the GPU generation it was written for. A "+" marks
one that was compiled to be wider: version 10.3+ runs on later 10.x, gpu_arch sm_80+ on later generations.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from edgeclip.bundle import Target
from edgeclip.cuda import first_gpu
from edgeclip.errors import EngineError
from edgeclip.runtime.backends.trt_library import TENSORRT, load_library

HOST_CODE = "EDGECLIP_PLAN_HOST_CODE"  # "1": a version-compatible plan may bring and run NVIDIA's lean runtime
TEGRA = Path("/etc/nv_tegra_release")  # present on Jetson
JETPACKS = {35: "JetPack 5", 36: "JetPack 6", 38: "JetPack 7"}


class StalePlan(EngineError):
    """A plan for another TensorRT, GPU or JetPack than this device's: it is to be compiled again, by `runtime`."""

    def __init__(self, message: str, hint: str, runtime: str) -> None:
        super().__init__(message, hint)
        self.runtime = runtime


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What runs plans here. runtime: tensorrt or tensorrt-rtx. version: its own, "" where it cannot be imported.

    gpu_arch: sm_87, or "" without a GPU. jetpack: L4T's version, or "".
    """

    runtime: str
    version: str
    gpu_arch: str
    jetpack: str


@functools.cache
def device_facts(runtime: str) -> DeviceFacts:
    """Of this machine."""
    return DeviceFacts(runtime, version(runtime), gpu_arch(), jetpack())


def version(runtime: str) -> str:
    try:
        return load_library(runtime).version
    except EngineError:
        return ""  # not installed is a fact here; require_match() makes an error of it


def gpu_arch() -> str:
    """sm_87 of an Orin, "" where there is no GPU."""
    try:
        major, minor = first_gpu().compute_capability
    except EngineError:
        return ""
    return f"sm_{major}{minor}"


def jetpack(path: Path | None = None) -> str:
    """L4T's version (36.4.0 is of JetPack 6), "" on anything but a Jetson. path: /etc/nv_tegra_release."""
    path = path or TEGRA
    if not path.exists():
        return ""
    found = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", path.read_text(errors="replace"))
    return f"{found[1]}.{found[2]}" if found else "unknown"


def jetpack_name(version: str) -> str:
    """36.4.0 -> JetPack 6 (L4T 36.4.0)."""
    if not version:
        return "no Jetson"
    major = version.split(".")[0]
    name = JETPACKS.get(int(major)) if major.isdecimal() else None
    return f"{name} (L4T {version})" if name else f"L4T {version}"


def mismatches(target: Target, device: DeviceFacts) -> list[str]:
    """Every way in which a plan is not for this device, in words; none where it is.

    Says nothing of a TensorRT that is not installed and of a GPU that is not there: those are other errors.
    """
    found = []
    if device.version and not version_fits(target.version, device.version):
        found.append(f"it was compiled by {target.runtime} {target.version}, and this is {device.version}")
    if device.gpu_arch and not arch_fits(target.gpu_arch, device.gpu_arch):
        found.append(f"it was compiled for {target.gpu_arch.replace(',', ', ')}, and this GPU is {device.gpu_arch}")
    if target.runtime == TENSORRT and not jetpack_fits(target.jetpack, device.jetpack):
        found.append(f"it was compiled on {jetpack_name(target.jetpack)}, and this is {jetpack_name(device.jetpack)}")
    return found


def version_fits(wanted: str, here: str) -> bool:
    """Major, minor and patch are equal; for 10.3+ the major is, and the minor not smaller."""
    there = _numbers(wanted.removesuffix("+"), 3)
    now = _numbers(here, 3)
    if wanted.endswith("+"):
        return there[:1] == now[:1] and there[1:] <= now[1:]
    return there == now


def arch_fits(wanted: str, here: str) -> bool:
    """wanted: sm_86, several with commas between, or sm_80+."""
    return any(arch == here or (arch.endswith("+") and _sm(arch[:-1]) <= _sm(here)) for arch in wanted.split(","))


def jetpack_fits(wanted: str, here: str) -> bool:
    """The first two numbers of L4T are equal: a release brings its own TensorRT and driver, a bug fix does not."""
    return _numbers(wanted, 2) == _numbers(here, 2)


def runs_here(target: Target) -> bool:
    """Whether this machine has all that a plan needs."""
    device = device_facts(target.runtime)
    return bool(device.version and device.gpu_arch) and not mismatches(target, device)


def require_match(target: Target, file: str, device: DeviceFacts) -> None:
    """Raises EngineError where TensorRT or a GPU is missing, StalePlan where the plan is for another device."""
    if not device.version:
        load_library(target.runtime)  # raises, with the reason and the remedy
    if not device.gpu_arch:
        first_gpu()  # likewise
    wrong = mismatches(target, device)
    if wrong:
        raise StalePlan(f"{file} is not for this device: {'; '.join(wrong)}", "edgeclip compile BUNDLE", target.runtime)


def _numbers(text: str, count: int) -> tuple[int, ...]:
    """The first numbers of a version; () of an empty one."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:count])


def _sm(arch: str) -> int:
    number = arch.removeprefix("sm_")
    return int(number) if number.isdecimal() else 0
