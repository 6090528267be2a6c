"""A GPU made of the host: edgeclip's CUDA calls and kernel run for real, on a driver that tests/cuda/ emulates."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from edgeclip.cuda import Cuda
from edgeclip.runtime.preprocess_gpu import SOURCE

HERE = Path(__file__).parent / "cuda"
COMPILER = shutil.which("g++")

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no g++ here to compile the kernel for the host with")
_kept: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def driver_path() -> Path:
    """The emulated libcuda, compiled once. Warnings are errors: resize.cu is C++ that any compiler should take."""
    holder = tempfile.TemporaryDirectory(prefix="edgeclip-host-gpu-")
    _kept.append(holder)
    path = Path(holder.name) / "libhostcuda.so"
    # Unfused arithmetic, as NumPy's: what fusing changes is below a grey level, and is the GPU's own.
    flags = ["-O2", "-ffp-contract=off", "-Wall", "-Werror", "-shared", "-fPIC", f'-DRESIZE_CU="{SOURCE}"']
    command = [str(COMPILER), *flags, str(HERE / "host_driver.cpp"), "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return path


def host_gpu() -> Cuda:
    """A Cuda on the emulated driver."""
    fail("", 0)
    return Cuda(str(driver_path()))


def library() -> Any:
    return ctypes.CDLL(str(driver_path()))


def alive() -> dict[str, int]:
    """What was made and not given back."""
    kinds = ("memory", "pinned", "stream", "graph", "executable", "module")
    return {kind: count for kind in kinds if (count := library().host_alive(kind.encode()))}


def fail(function: str, code: int) -> None:
    """Have a driver function return `code` from now on."""
    library().host_fail(function.encode(), code)
