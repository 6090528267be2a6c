"""The CUDA driver's interface on an emulated driver, and where there is none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from host_gpu import COMPILER, alive, driver_path, fail, host_gpu, needs_compiler

from edgeclip import nvrtc
from edgeclip.cuda import Cuda, NoGpu
from edgeclip.errors import EngineError


@pytest.fixture(autouse=True)
def well() -> Iterator[None]:
    yield
    if COMPILER is not None:
        fail("", 0)


def test_without_a_driver() -> None:
    with pytest.raises(NoGpu, match="there is no NVIDIA driver here") as caught:
        Cuda("libnothing-of-the-kind.so.1")
    assert caught.value.exit_code == 69
    assert caught.value.hint


@needs_compiler
def test_without_a_device_and_with_a_broken_one() -> None:
    fail("cuInit", 100)
    with pytest.raises(NoGpu, match="there is no NVIDIA GPU here"):
        Cuda(str(driver_path()))
    fail("cuInit", 999)
    with pytest.raises(EngineError, match="CUDA: cuInit failed: CUDA_ERROR: in the host's words") as caught:
        Cuda(str(driver_path()))
    assert not isinstance(caught.value, NoGpu)


@needs_compiler
def test_facts_of_the_device() -> None:
    cuda = host_gpu()
    assert cuda.name == "Host"
    assert cuda.compute_capability == (8, 7)


@needs_compiler
def test_a_graph_repeats_what_was_captured_and_failing_work_leaves_none() -> None:
    cuda, before = host_gpu(), alive()
    source, result, stream = cuda.pinned((4,), np.int32), cuda.pinned((4,), np.int32), cuda.stream()
    address = cuda.allocate(source.nbytes)

    def work() -> None:
        stream.to_device(address, source)
        stream.to_host(result, address)

    result.array[...] = 0
    source.array[...] = (1, 2, 3, 4)
    graph = stream.capture(work)
    assert not result.array.any()  # captured, not done
    graph.launch(stream)
    assert result.array.tolist() == [1, 2, 3, 4]
    source.array[...] = 9
    graph.launch(stream)
    assert result.array.tolist() == [9] * 4

    def breaks() -> None:
        raise EngineError("inference failed")

    with pytest.raises(EngineError, match="inference failed"):
        stream.capture(breaks)
    graph.close()
    for held in (source, result, stream):
        held.close()
    cuda.free(address)
    assert alive() == before


def test_without_nvrtc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "candidates", lambda: iter(["libnothing.so"]))
    with pytest.raises(EngineError, match="there is no NVRTC here") as caught:
        nvrtc.compile_source("", "empty.cu", (8, 7))
    assert "edgeclip[trt]" in caught.value.hint
