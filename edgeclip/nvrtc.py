"""CUDA source to PTX with NVRTC, through its C interface. It needs no GPU, and no nvcc."""

from __future__ import annotations

import ctypes
import ctypes.util
import glob
import importlib.util
import os
from collections.abc import Iterator
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from pathlib import Path
from typing import Any

from edgeclip.errors import EngineError

PLACES = ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/*/lib", "/usr/lib/*-linux-gnu")
INSTALL = "on Jetson: sudo apt install cuda-nvrtc-*; elsewhere: pip install 'edgeclip[trt]'"


def compile_source(source: str, name: str, arch: tuple[int, int]) -> bytes:
    """PTX for compute capability `arch`. Raises EngineError with the compiler's words."""
    library = load_nvrtc()
    program = c_void_p()
    check(library, library.nvrtcCreateProgram(byref(program), source.encode(), name.encode(), 0, None, None), "create")
    try:
        options = (c_char_p * 2)(f"--gpu-architecture=compute_{arch[0]}{arch[1]}".encode(), b"--fmad=true")
        if library.nvrtcCompileProgram(program, len(options), options) != 0:
            raise EngineError(f"NVRTC cannot compile {name}: {compile_log(library, program)}", INSTALL)
        size = c_size_t()
        check(library, library.nvrtcGetPTXSize(program, byref(size)), "size")
        ptx = ctypes.create_string_buffer(size.value)
        check(library, library.nvrtcGetPTX(program, ptx), "result")
        return ptx.raw
    finally:
        library.nvrtcDestroyProgram(byref(program))


def compile_log(library: Any, program: c_void_p) -> str:
    size = c_size_t()
    library.nvrtcGetProgramLogSize(program, byref(size))
    text = ctypes.create_string_buffer(max(1, size.value))
    library.nvrtcGetProgramLog(program, text)
    return " ".join(text.value.decode(errors="replace").split())


def check(library: Any, code: int, what: str) -> None:
    if code != 0:
        raise EngineError(f"NVRTC: {what}: {library.nvrtcGetErrorString(code).decode()}", INSTALL)


def load_nvrtc() -> Any:
    """The library: of pip, of the CUDA toolkit, or of the system. Raises EngineError where there is none."""
    for path in candidates():
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue  # another CUDA's, or another processor's: the next may do
        library.nvrtcGetErrorString.argtypes, library.nvrtcGetErrorString.restype = (c_int,), c_char_p
        library.nvrtcCreateProgram.argtypes = (POINTER(c_void_p), c_char_p, c_char_p, c_int, c_void_p, c_void_p)
        library.nvrtcCompileProgram.argtypes = (c_void_p, c_int, POINTER(c_char_p))
        for function in ("nvrtcGetPTXSize", "nvrtcGetProgramLogSize"):
            getattr(library, function).argtypes = (c_void_p, POINTER(c_size_t))
        for function in ("nvrtcGetPTX", "nvrtcGetProgramLog"):
            getattr(library, function).argtypes = (c_void_p, c_char_p)
        library.nvrtcDestroyProgram.argtypes = (POINTER(c_void_p),)
        return library
    raise EngineError("there is no NVRTC here, which compiles CUDA source", INSTALL)


def candidates() -> Iterator[str]:
    package = importlib.util.find_spec("nvidia")
    for root in package.submodule_search_locations or () if package is not None else ():
        yield from sorted(glob.glob(os.path.join(root, "*", "lib", "libnvrtc.so*")), reverse=True)
    for place in PLACES:
        yield from (path for path in sorted(glob.glob(f"{place}/libnvrtc.so*")) if not Path(path).is_dir())
    named = ctypes.util.find_library("nvrtc")
    if named:
        yield named
