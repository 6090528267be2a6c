"""Is there room for a build? On a board of 4 to 8 GB the kernel would end it half-way, and other things with it."""

from __future__ import annotations

import re
from pathlib import Path

from edgeclip.errors import EngineError

MEMINFO = Path("/proc/meminfo")
MB = 1 << 20
# What a builder holds beside the network: CUDA's context and TensorRT's kernels. Measured for RTX without a GPU; the
# full TensorRT's is what NVIDIA's boards show, and was not measured here.
RESIDENT_BYTES = {"tensorrt": 1200 * MB, "tensorrt-rtx": 250 * MB}
COPIES = 4  # of the network: file, parsed, optimised, serialised. RTX took 1.3 GB for a float ViT-B/16 of 345 MB
MOST_WORKSPACE = 1024 * MB
LEAST_WORKSPACE = 64 * MB


def available_bytes() -> int:
    """Memory that may be taken without swapping; 0 where the kernel does not say."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", MEMINFO.read_text()) if MEMINFO.exists() else None
    return int(found[1]) * 1024 if found else 0


def plan_workspace(onnx_bytes: int, runtime: str, available: int, wanted: int | None = None) -> int:
    """Bytes that the builder may take for trying kernels: what was asked for, else a quarter of what is left, to 1 GiB.

    onnx_bytes: of the largest graph. available: 0 for unknown. Raises EngineError where a build cannot end well.
    """
    fixed = RESIDENT_BYTES[runtime] + COPIES * onnx_bytes
    if available == 0:
        return wanted or MOST_WORKSPACE
    least = wanted or LEAST_WORKSPACE
    if fixed + least > available:
        raise EngineError(
            f"compiling takes about {(fixed + least) // MB} MB of memory, and {available // MB} MB are available",
            "stop what else runs (a desktop: sudo systemctl isolate multi-user.target), add swap, or lower --workspace",
        )
    return wanted or max(LEAST_WORKSPACE, min(MOST_WORKSPACE, (available - fixed) // 4))
