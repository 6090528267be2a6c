"""Plans on TensorRT 8.5 to 11 and TensorRT-RTX, by tensor names: buffers made once, a CUDA graph replayed per frame."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeclip.bundle import Target
from edgeclip.cuda import Graph, Stream, first_gpu
from edgeclip.errors import DataError, EngineError
from edgeclip.runtime.backends.guard import check_input, check_output
from edgeclip.runtime.backends.plan_target import HOST_CODE, device_facts, require_match
from edgeclip.runtime.backends.trt_library import Library, LogLines, load_library, make_logger, uncollected
from edgeclip.types import Embeddings

NAMES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}


class TensorRTEngine:
    """One input, one output. Implements types.Engine. `threads` is the interface's: a GPU has its own.

    Raises StalePlan for a plan that is not for this device, DataError for a file that is no plan, EngineError for what
    TensorRT or CUDA refuse.
    """

    def __init__(self, path: Path, threads: int, target: Target) -> None:
        require_match(target, path.name, device_facts(target.runtime))
        library = load_library(target.runtime)
        self._cuda = first_gpu()
        self._cuda.make_current()
        self._lines = LogLines()
        with uncollected(), ExitStack() as undo:
            self._open(library, path, undo)
            self._undo = undo.pop_all()
        how = "CUDA graph" if self._graph is not None else "no CUDA graph"
        self.runtime = f"{NAMES[target.runtime]} {library.version}, {self._cuda.name}, {how}"

    def _open(self, library: Library, path: Path, undo: ExitStack) -> None:
        trt = library.module
        # These three live as long as the engine: TensorRT does not keep its own references in every version.
        self._logger = make_logger(library, self._lines)
        self._runtime = trt.Runtime(self._logger)
        if os.environ.get(HOST_CODE) == "1" and hasattr(self._runtime, "engine_host_code_allowed"):
            self._runtime.engine_host_code_allowed = True
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise DataError(
                f"{path} cannot be loaded by {library.runtime} {library.version}: {self._lines.why()}",
                "edgeclip compile BUNDLE",
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(
                f"no memory for the plan: {self._lines.why()}",
                "stop what else uses the GPU, or compile a smaller batch",
            )
        undo.callback(self._forget)
        stream = self._stream = self._cuda.stream()
        undo.callback(stream.close)
        source, result = self._tensors(trt, path)
        self.input_shape = self._shape_of(source)
        self.input_dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(source)))
        if -1 in tuple(self._engine.get_tensor_shape(source)):
            self._require(self._context.set_optimization_profile_async(0, stream.handle), "profile 0")
            self._require(self._context.set_input_shape(source, self.input_shape), f"input {self.input_shape}")
        rows = tuple(int(size) for size in self._context.get_tensor_shape(result))
        dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(result)))
        if dtype != np.float32 or any(size < 1 for size in rows):
            raise DataError(f"{path} returns {dtype} {list(rows)}, not float32 rows", "edgeclip compile BUNDLE")
        self._input = self._cuda.pinned(self.input_shape, self.input_dtype)
        undo.callback(self._input.close)
        self._output = self._cuda.pinned(rows, np.float32)
        undo.callback(self._output.close)
        self._input.array[...] = 0
        self._rows: Embeddings = np.empty(rows, np.float32)  # what is handed on outlives the page-locked memory
        self._device_input = self._allocate(self._input.nbytes, undo)
        self._device_output = self._allocate(self._output.nbytes, undo)
        self._require(self._context.set_tensor_address(source, self._device_input), source)
        self._require(self._context.set_tensor_address(result, self._device_output), result)
        self._graph = self._record(stream)
        if self._graph is not None:
            undo.callback(self._graph.close)

    def _tensors(self, trt: Any, path: Path) -> tuple[str, str]:
        """The names of the input and the output."""
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        outputs = [name for name in names if name not in inputs]
        if len(inputs) != 1 or len(outputs) != 1:
            raise DataError(
                f"{path} has {len(inputs)} inputs and {len(outputs)} outputs, not one of each",
                "edgeclip compile BUNDLE",
            )
        return inputs[0], outputs[0]

    def _shape_of(self, source: str) -> tuple[int, ...]:
        """The shape it runs at: of several profiles, the first, which is the first of `compile --batch`."""
        shape = tuple(int(size) for size in self._engine.get_tensor_shape(source))
        if -1 not in shape:
            return shape
        return tuple(int(size) for size in self._engine.get_tensor_profile_shape(source, 0)[1])

    def _record(self, stream: Stream) -> Graph | None:
        """The inference as one CUDA graph; None where this plan cannot be captured. It runs once plainly before."""
        self._enqueue()
        stream.synchronize()
        try:
            return stream.capture(self._enqueue)
        except EngineError:
            stream.synchronize()
            return None

    def _enqueue(self) -> None:
        self._stream.to_device(self._device_input, self._input)
        self._require(self._context.execute_async_v3(self._stream.handle), "inference")
        self._stream.to_host(self._output, self._device_output)

    def run(self, batch: npt.NDArray[Any]) -> Embeddings:
        check_input(batch, self.input_shape, self.input_dtype)
        self._cuda.make_current()
        np.copyto(self._input.array, batch)
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            self._enqueue()
        self._stream.synchronize()
        np.copyto(self._rows, self._output.array)
        check_output(self._rows, self.runtime)
        return self._rows

    def close(self) -> None:
        """Gives everything back: a later run() fails."""
        self._cuda.make_current()
        self._undo.close()

    def _allocate(self, size: int, undo: ExitStack) -> int:
        address = self._cuda.allocate(size)
        undo.callback(self._cuda.free, address)
        return address

    def _forget(self) -> None:
        """Context before engine before runtime."""
        del self._context, self._engine, self._runtime

    def _require(self, done: bool, what: str) -> None:
        """TensorRT returns False and says why in its log."""
        if not done:
            raise EngineError(f"TensorRT refused {what}: {self._lines.why()}", "edgeclip compile BUNDLE")
