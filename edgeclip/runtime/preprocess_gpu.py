"""preprocess.Preprocessor on the GPU: the same filters, in one kernel (resize.cu), for pictures of any size.

The picture goes up once; the engine's small uint8 input comes back in memory that both sides see. On a Jetson, where
processor and GPU share their memory, that is no copy at all.
"""

from __future__ import annotations

from contextlib import ExitStack
from ctypes import c_int, c_ulonglong
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeclip.bundle import Preprocess
from edgeclip.cuda import Address, Cuda, Kernel, Pinned, Stream
from edgeclip.errors import DataError, EngineError
from edgeclip.nvrtc import compile_source
from edgeclip.runtime.preprocess import Batch, Preprocessor, filter_weights, placement
from edgeclip.types import Pixels

SOURCE = Path(__file__).with_name("resize.cu")
KERNEL = "edgeclip_resize"
BLOCK = (16, 16)
PLANS = 16  # input sizes whose memory is kept on the GPU
PROBE = (3, 4)  # times the engine's input: shrunk, and not so far that the host would halve it first
MOST_APART = 1  # grey levels: what rounding may do


def compile_kernel(cuda: Cuda) -> bytes:
    """PTX of resize.cu for this GPU. Raises EngineError where there is no NVRTC."""
    return compile_source(SOURCE.read_text(encoding="utf-8"), SOURCE.name, cuda.compute_capability)


class GpuPreprocessor:
    """Call with pixels [h, w, 3] uint8 BGR: [1, H, W, 3] uint8 RGB, in a buffer that the next call overwrites.

    Not for two threads at once. Raises DataError for anything that is not such a picture, EngineError for CUDA's
    errors, and when it is made, where the kernel and preprocess.py do not agree on a picture of noise.
    """

    def __init__(self, facts: Preprocess, cuda: Cuda, binary: bytes) -> None:
        self._facts = facts
        self._cuda = cuda
        self._undo = ExitStack()
        cuda.make_current()
        self._kernel: Kernel = cuda.kernel(binary, KERNEL)
        self._undo.callback(self._kernel.close)
        self._stream: Stream = cuda.stream()
        self._undo.callback(self._stream.close)
        self._batch: Pinned = cuda.pinned((1, *facts.size, 3), np.uint8)
        self._undo.callback(self._batch.close)
        self._plans: dict[tuple[int, ...], _Plan] = {}
        try:
            self._agree()
        except BaseException:
            self.close()
            raise

    def __call__(self, pixels: Pixels) -> Batch:
        self._cuda.make_current()  # the thread that calls is not the one that made this
        plan = self._plans.get(pixels.shape)
        if plan is None:
            plan = self._plan(pixels)
        if pixels.dtype != np.uint8:
            raise DataError(f"a picture has pixels of type {pixels.dtype}, not uint8", "convert it to 8 bits a channel")
        np.copyto(plan.staging.array, pixels)
        self._stream.to_device(plan.source, plan.staging)
        self._kernel.launch(self._stream, plan.grid, BLOCK, plan.arguments)
        self._stream.synchronize()
        return self._batch.array

    def close(self) -> None:
        self._cuda.make_current()
        for plan in self._plans.values():
            plan.close()
        self._plans = {}
        self._undo.close()

    def _plan(self, pixels: Pixels) -> _Plan:
        if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise DataError(f"a picture has shape {list(pixels.shape)}, not [height, width, 3]", "convert it to colour")
        if len(self._plans) >= PLANS:
            self._plans.pop(next(iter(self._plans))).close()
        height, width = pixels.shape[:2]
        plan = self._plans[pixels.shape] = _Plan(height, width, self._facts, self._cuda, self._stream, self._batch)
        return plan

    def _agree(self) -> None:
        shape = (PROBE[0] * self._facts.size[0], PROBE[1] * self._facts.size[1], 3)
        picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        here = self(picture).astype(np.int16)
        apart = int(np.abs(here - Preprocessor(self._facts)(picture)).max())
        if apart > MOST_APART:
            raise EngineError(
                f"the GPU's preprocessing is {apart} grey levels from the processor's", "run without --gpu-preprocess"
            )


class _Plan:
    """Tables and buffers for pictures of one size."""

    def __init__(self, height: int, width: int, facts: Preprocess, cuda: Cuda, stream: Stream, batch: Pinned) -> None:
        rows, columns = facts.size
        (tall, top), (wide, left) = placement(height, width, facts)
        with ExitStack() as undo:  # what was had is given back where the rest is refused
            self._undo = undo
            self.staging = self._pinned(cuda, (height, width, 3), np.uint8)
            self.source = self._device(cuda, self.staging.nbytes)
            first_y, weights_y = taps(height, tall, top, rows, facts.interpolation)
            first_x, weights_x = taps(width, wide, left, columns, facts.interpolation)
            tables = [self._upload(cuda, stream, table) for table in (first_y, weights_y, first_x, weights_x)]
            stream.synchronize()
            self._undo = undo.pop_all()
        self.grid = (-(-columns // BLOCK[0]), -(-rows // BLOCK[1]))
        self.arguments = (
            c_ulonglong(self.source), c_int(width),
            c_ulonglong(tables[0]), c_ulonglong(tables[1]), c_int(weights_y.shape[1]),
            c_ulonglong(tables[2]), c_ulonglong(tables[3]), c_int(weights_x.shape[1]),
            c_ulonglong(batch.address), c_int(rows), c_int(columns),
        )  # fmt: skip

    def close(self) -> None:
        self._undo.close()

    def _pinned(self, cuda: Cuda, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Pinned:
        memory = cuda.pinned(shape, dtype)
        self._undo.callback(memory.close)
        return memory

    def _device(self, cuda: Cuda, size: int) -> Address:
        address = cuda.allocate(size)
        self._undo.callback(cuda.free, address)
        return address

    def _upload(self, cuda: Cuda, stream: Stream, table: npt.NDArray[np.generic]) -> Address:
        staging = self._pinned(cuda, table.shape, table.dtype)
        np.copyto(staging.array, table)
        address = self._device(cuda, staging.nbytes)
        stream.to_device(address, staging)
        return address


def taps(
    length: int, scaled: int, first: int, count: int, interpolation: str
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """filter_weights() without its zeros: (first pixel [count], weights [count, taps]), within 0..length everywhere."""
    dense = filter_weights(length, scaled, first, count, interpolation)
    begin = (dense != 0).argmax(axis=1)
    end = length - (dense[:, ::-1] != 0).argmax(axis=1)
    width = int((end - begin).max())
    begin = np.minimum(begin, length - width)  # a row at the far edge begins earlier, with zeros in front
    return begin.astype(np.int32), np.take_along_axis(dense, begin[:, None] + np.arange(width), 1).astype(np.float32)
