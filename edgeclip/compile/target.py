"""What is compiled for: which TensorRT, which GPUs, here or ahead of time; and what the manifest will say of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeclip.bundle import Target
from edgeclip.compile.builder import Options
from edgeclip.errors import EngineError, UsageError
from edgeclip.runtime.backends.plan_target import DeviceFacts, device_facts
from edgeclip.runtime.backends.trt_library import INSTALL, RTX, TENSORRT, Library, load_library
from edgeclip.runtime.text_cache import default_cache_dir

AHEAD = ((8, 6), (8, 9), (12, 0))  # RTX 30, 40 and 50: what TensorRT-RTX is compiled for where nobody says
AHEAD_HINT = "--target tensorrt-rtx --sm 86,89,120 compiles ahead of time, for RTX GPUs, on a machine without one"


@dataclass(frozen=True)
class Aim:
    """library: what compiles. archs: the GPUs. ahead: compiled for GPUs that need not be here."""

    library: Library
    archs: tuple[tuple[int, int], ...]
    ahead: bool
    jetpack: str

    def target(self, options: Options) -> Target:
        """For the manifest. A "+" marks what is wider than this version or these GPUs."""
        version = self.library.version
        if options.version_compatible:
            version = ".".join(version.split(".")[:2]) + "+"
        archs = ",".join(f"sm_{major}{minor}" for major, minor in self.archs)
        return Target(self.library.runtime, version, "sm_80+" if options.hardware_compatible else archs, self.jetpack)


def aim_at(runtime: str | None, archs: tuple[tuple[int, int], ...]) -> Aim:
    """runtime: tensorrt, tensorrt-rtx, or None for what this machine has. archs: () for this machine's GPU.

    Raises EngineError where TensorRT is not installed or needs a GPU that is not here, UsageError where --sm does not
    fit.
    """
    runtime = runtime or (RTX if archs else installed())
    library = load_library(runtime)
    device = device_facts(runtime)
    if runtime == TENSORRT:
        if archs:
            raise UsageError("tensorrt compiles for the GPU it runs on, and --sm names others", AHEAD_HINT)
        if not device.gpu_arch:
            raise EngineError(
                "tensorrt compiles on the GPU that will run the plan, and there is none here",
                f"run this on the device; {AHEAD_HINT}",
            )
    if archs or not device.gpu_arch:
        return Aim(library, tuple(dict.fromkeys(archs)) or AHEAD, True, "")
    return Aim(library, (capability(device),), False, device.jetpack if runtime == TENSORRT else "")


def installed() -> str:
    """The TensorRT to use where none is named: TensorRT on the GPU, then TensorRT-RTX."""
    facts = {runtime: device_facts(runtime) for runtime in (TENSORRT, RTX)}
    if facts[TENSORRT].version and (facts[TENSORRT].gpu_arch or not facts[RTX].version):
        return TENSORRT
    if facts[RTX].version:
        return RTX
    remedy = f"{TENSORRT}: {INSTALL[TENSORRT]}; or {RTX}: {INSTALL[RTX]}"
    raise EngineError("neither TensorRT nor TensorRT-RTX is installed here", remedy)


def capability(device: DeviceFacts) -> tuple[int, int]:
    """sm_87 -> (8, 7)."""
    return arch_from(device.gpu_arch.removeprefix("sm_"))


def arch_from(text: str) -> tuple[int, int]:
    """86 -> (8, 6), 120 -> (12, 0). Raises UsageError."""
    found = re.fullmatch(r"(?:sm_?)?(\d{1,2})(\d)", text.strip().lower())
    if found is None:
        raise UsageError(f"--sm {text}: not a compute capability", "write it like 86,89,120")
    return int(found[1]), int(found[2])


def timing_cache(aim: Aim) -> Path | None:
    """One file for each TensorRT and GPU, in the cache directory. None for TensorRT-RTX, which times nothing."""
    directory = default_cache_dir()
    if aim.library.runtime == RTX or directory is None:
        return None
    arch = "-".join(f"sm{major}{minor}" for major, minor in aim.archs)
    return directory / "tensorrt" / f"{aim.library.runtime}-{aim.library.version}-{arch}.timing"
