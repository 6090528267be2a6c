"""The CUDA driver through its C interface: device facts, memory, streams, graphs, kernels. Every call is checked.

`libcuda.so.1` comes with every NVIDIA driver, on Jetson too, and its interface is stable: no Python package has to
match it (PyCUDA has no wheels, and cuda-python none for the Python of JetPack 5 and 6).
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeclip.errors import EngineError

DRIVER = "libcuda.so.1"
HINT = "see what `edgeclip doctor` says; a GPU that fell off its bus needs a reboot"
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
COMPUTE_MAJOR, COMPUTE_MINOR = 75, 76  # CUdevice_attribute
HOST_MAPPED = 2  # CU_MEMHOSTALLOC_DEVICEMAP
STREAM_NON_BLOCKING = 1
CAPTURE_THREAD_LOCAL = 1  # other threads may allocate meanwhile

Address = int  # on the device

# name -> argument types; every function returns a CUresult. The suffix is the version of the function's interface.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemAlloc_v2": (POINTER(c_ulonglong), c_size_t),
    "cuMemFree_v2": (c_ulonglong,),
    "cuMemHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cuMemHostGetDevicePointer_v2": (POINTER(c_ulonglong), c_void_p, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_ulonglong, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_ulonglong, c_size_t, c_void_p),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_ulonglong),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphExecDestroy": (c_void_p,),
    "cuGraphDestroy": (c_void_p,),
    "cuModuleLoadData": (POINTER(c_void_p), c_char_p),
    "cuModuleGetFunction": (POINTER(c_void_p), c_void_p, c_char_p),
    "cuModuleUnload": (c_void_p,),
    "cuLaunchKernel": (c_void_p, *(c_uint,) * 7, c_void_p, POINTER(c_void_p), POINTER(c_void_p)),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}


class NoGpu(EngineError):
    """There is no NVIDIA driver here, or no GPU that it sees."""


class Cuda:
    """The first GPU, its primary context current on the thread that made this. Raises NoGpu, EngineError."""

    def __init__(self, driver: str = DRIVER) -> None:
        try:
            self._library = ctypes.CDLL(driver)
        except OSError as error:
            raise NoGpu(
                f"there is no NVIDIA driver here ({error})",
                "run it on a machine with an NVIDIA GPU, or use another engine",
            ) from error
        for name, arguments in FUNCTIONS.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, c_int
        self._call("cuInit", 0)
        count = c_int()
        self._call("cuDeviceGetCount", byref(count))
        if count.value == 0:
            raise NoGpu("there is no NVIDIA GPU here", "check CUDA_VISIBLE_DEVICES, and what nvidia-smi says")
        self._device = c_int()
        self._call("cuDeviceGet", byref(self._device), 0)
        self._context = c_void_p()
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), self._device)
        self.make_current()

    def make_current(self) -> None:
        """Needed once on every thread that calls anything else."""
        self._call("cuCtxSetCurrent", self._context)

    @property
    def name(self) -> str:
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, len(text), self._device)
        return text.value.decode(errors="replace")

    @property
    def compute_capability(self) -> tuple[int, int]:
        """(8, 7) on an Orin."""
        return self._attribute(COMPUTE_MAJOR), self._attribute(COMPUTE_MINOR)

    def allocate(self, size: int) -> Address:
        """Device memory, freed by free()."""
        address = c_ulonglong()
        self._call("cuMemAlloc_v2", byref(address), size)
        return address.value

    def free(self, address: Address) -> None:
        self._call("cuMemFree_v2", address)

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Pinned:
        """An array in page-locked host memory that the device sees too."""
        return Pinned(self, tuple(shape), np.dtype(dtype))

    def stream(self) -> Stream:
        return Stream(self)

    def kernel(self, binary: bytes, name: str) -> Kernel:
        """A function of a module in PTX, as nvrtc.compile_source() makes it."""
        return Kernel(self, binary, name)

    def _attribute(self, number: int) -> int:
        value = c_int()
        self._call("cuDeviceGetAttribute", byref(value), number, self._device)
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:
        """Call a driver function. Raises EngineError with CUDA's own words."""
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            if code == NO_DEVICE:
                raise NoGpu("there is no NVIDIA GPU here", "check CUDA_VISIBLE_DEVICES, and what nvidia-smi says")
            raise EngineError(f"CUDA: {name} failed: {self._explain(code)}", HINT)

    def _explain(self, code: int) -> str:
        words = []
        for function in (self._library.cuGetErrorName, self._library.cuGetErrorString):
            text = c_char_p()
            if function(code, byref(text)) == 0 and text.value:
                words.append(text.value.decode(errors="replace"))
        return ": ".join(words) or f"error {code}"


class Pinned:
    """array: the host's view, valid until close(). address: the device's, of the same memory."""

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._cuda = cuda
        size = max(1, int(np.prod(shape)) * dtype.itemsize)
        self._pointer = c_void_p()
        cuda._call("cuMemHostAlloc", byref(self._pointer), size, HOST_MAPPED)
        address = c_ulonglong()
        cuda._call("cuMemHostGetDevicePointer_v2", byref(address), self._pointer, 0)
        self.address: Address = address.value
        self.nbytes = int(np.prod(shape)) * dtype.itemsize
        memory = (ctypes.c_ubyte * size).from_address(self._pointer.value or 0)
        self.array: npt.NDArray[Any] = (
            np.frombuffer(memoryview(memory), np.uint8)[: self.nbytes].view(dtype).reshape(shape)
        )

    @property
    def pointer(self) -> int:
        """The host's address."""
        return self._pointer.value or 0

    def close(self) -> None:
        if self._pointer:
            del self.array
            self._cuda._call("cuMemFreeHost", self._pointer)
            self._pointer = c_void_p()


class Stream:
    """Work in order, beside what the host does. handle: what TensorRT takes."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._stream = c_void_p()
        cuda._call("cuStreamCreate", byref(self._stream), STREAM_NON_BLOCKING)

    @property
    def handle(self) -> int:
        return self._stream.value or 0

    def to_device(self, address: Address, source: Pinned) -> None:
        self._cuda._call("cuMemcpyHtoDAsync_v2", address, source.pointer, source.nbytes, self._stream)

    def to_host(self, target: Pinned, address: Address) -> None:
        self._cuda._call("cuMemcpyDtoHAsync_v2", target.pointer, address, target.nbytes, self._stream)

    def synchronize(self) -> None:
        """Wait until all of it is done; raises what went wrong in it."""
        self._cuda._call("cuStreamSynchronize", self._stream)

    def capture(self, work: Callable[[], None]) -> Graph:
        """What `work` puts on this stream, as one thing that is launched at once. Raises EngineError."""
        graph = c_void_p()
        with self._capturing(graph):
            work()
        return Graph(self._cuda, graph)

    @contextmanager
    def _capturing(self, graph: c_void_p) -> Iterator[None]:
        self._cuda._call("cuStreamBeginCapture_v2", self._stream, CAPTURE_THREAD_LOCAL)
        try:
            yield
        except BaseException:
            # Unchecked: the first error is the one to tell.
            self._cuda._library.cuStreamEndCapture(self._stream, byref(graph))
            if graph:
                self._cuda._library.cuGraphDestroy(graph)
            raise
        self._cuda._call("cuStreamEndCapture", self._stream, byref(graph))

    def close(self) -> None:
        if self._stream:
            self._cuda._call("cuStreamDestroy_v2", self._stream)
            self._stream = c_void_p()


class Graph:
    """Captured work, launched as often as wanted."""

    def __init__(self, cuda: Cuda, graph: c_void_p) -> None:
        self._cuda = cuda
        self._executable = c_void_p()
        try:
            cuda._call("cuGraphInstantiateWithFlags", byref(self._executable), graph, 0)
        finally:
            cuda._call("cuGraphDestroy", graph)

    def launch(self, stream: Stream) -> None:
        self._cuda._call("cuGraphLaunch", self._executable, stream.handle)

    def close(self) -> None:
        if self._executable:
            self._cuda._call("cuGraphExecDestroy", self._executable)
            self._executable = c_void_p()


class Kernel:
    """One function. Arguments are ctypes values; device addresses are c_ulonglong."""

    def __init__(self, cuda: Cuda, binary: bytes, name: str) -> None:
        self._cuda = cuda
        self._module, self._function = c_void_p(), c_void_p()
        cuda._call("cuModuleLoadData", byref(self._module), binary)
        cuda._call("cuModuleGetFunction", byref(self._function), self._module, name.encode())

    def launch(self, stream: Stream, grid: tuple[int, int], block: tuple[int, int], arguments: Sequence[Any]) -> None:
        pointers = (c_void_p * len(arguments))(*(ctypes.cast(byref(a), c_void_p) for a in arguments))
        self._cuda._call("cuLaunchKernel", self._function, *grid, 1, *block, 1, 0, stream.handle, pointers, None)

    def close(self) -> None:
        if self._module:
            self._cuda._call("cuModuleUnload", self._module)
            self._module = c_void_p()


@functools.cache
def first_gpu() -> Cuda:
    """The process's one Cuda. Raises EngineError where there is no GPU."""
    return Cuda()
