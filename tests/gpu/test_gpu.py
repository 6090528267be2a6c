"""What only a GPU can show. `pytest -m gpu -rs` says what ran and why the rest did not."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from qdq import quantize
from tiny_bundle import Weights, engine, golden_frames, reference, write_bundle, write_image_onnx

from edgeclip.bundle import Preprocess, open_bundle, write_digests
from edgeclip.compile.bundles import compile_bundle
from edgeclip.cuda import Cuda, first_gpu
from edgeclip.errors import EngineError, UsageError
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.backends.plan_target import device_facts
from edgeclip.runtime.backends.trt_library import RTX, TENSORRT
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.runtime.preprocess_gpu import GpuPreprocessor, compile_kernel

pytestmark = pytest.mark.gpu
SIZES = [(480, 640), (720, 1280), (1080, 1920), (31, 500), (224, 224)]


@pytest.fixture(scope="module")
def cuda() -> Cuda:
    try:
        return first_gpu()
    except EngineError as error:
        pytest.skip(f"no GPU: {error.message}")


@pytest.fixture(scope="module")
def kernel(cuda: Cuda) -> bytes:
    try:
        return compile_kernel(cuda)
    except EngineError as error:
        pytest.skip(f"no NVRTC: {error.message}")


def facts(resize: str, interpolation: str) -> Preprocess:
    return Preprocess((224, 224), resize, interpolation, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # type: ignore[arg-type]


def test_what_goes_up_comes_back_and_a_graph_repeats_it(cuda: Cuda) -> None:
    assert cuda.compute_capability >= (5, 0)
    cuda.make_current()
    source, result, stream = cuda.pinned((1000,), np.int32), cuda.pinned((1000,), np.int32), cuda.stream()
    address = cuda.allocate(source.nbytes)

    def work() -> None:
        stream.to_device(address, source)
        stream.to_host(result, address)

    work()
    stream.synchronize()
    graph = stream.capture(work)
    for seed in range(3):
        source.array[...] = np.random.default_rng(seed).integers(0, 1000, 1000)
        graph.launch(stream)
        stream.synchronize()
        assert (result.array == source.array).all()
    graph.close()
    for held in (source, result, stream):
        held.close()
    cuda.free(address)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_the_kernel_agrees_with_the_processor(cuda: Cuda, kernel: bytes, resize: str, interpolation: str) -> None:
    chosen = facts(resize, interpolation)
    gpus, processors = GpuPreprocessor(chosen, cuda, kernel), Preprocessor(chosen)
    for height, width in SIZES:
        y, x = np.mgrid[:height, :width]
        waves = np.stack([127 + 120 * np.sin(x / (9 + c) + y / 17) for c in range(3)], axis=2).astype(np.uint8)
        apart = np.abs(gpus(waves).astype(np.int16) - processors(waves))
        assert apart.mean() < 0.5
        assert apart.max() <= 3
    gpus.close()


def test_how_long_a_picture_takes(cuda: Cuda, kernel: bytes, record_property: pytest.FixtureRequest) -> None:
    """A measurement, not a limit: shown with -rA, kept in --junitxml."""
    chosen = facts("shortest", "bicubic")
    picture = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    gpus = GpuPreprocessor(chosen, cuda, kernel)
    for name, preprocess in (("gpu", gpus), ("processor", Preprocessor(chosen))):
        times_ms = []
        for _ in range(30):
            began = time.perf_counter()
            preprocess(picture)
            times_ms.append(1e3 * (time.perf_counter() - began))
        record_property(f"1080p to 224 on the {name}, ms", round(float(np.median(times_ms)), 3))  # type: ignore[operator]
        print(f"1080p to 224 on the {name}: {np.median(times_ms):.3f} ms")
    gpus.close()


@pytest.mark.parametrize("runtime", [TENSORRT, RTX])
def test_a_plan_compiled_here_runs_here(cuda: Cuda, runtime: str, tmp_path: Path) -> None:
    if not device_facts(runtime).version:
        pytest.skip(f"{runtime} is not installed")
    forms = (engine("image", "onnx"), engine("text", "tflite"))
    directory = write_bundle(tmp_path / "bundle", engines=forms)
    write_image_onnx(directory / "image.onnx", Weights())
    quantize(directory / "image.onnx", 8.0)
    write_digests(directory)
    try:
        result = compile_bundle(open_bundle(directory), runtime=runtime)
    except UsageError as error:  # TensorRT-RTX knows no data-centre GPUs
        pytest.skip(error.message)
    assert result.tested  # its golden frames, on this GPU
    image = next(made for made in result.compiled if made.entry.role == "image")
    assert set(image.latency_ms) == {"int8", "fp16"}
    print(f"{runtime}: {image.latency_ms}, kept {image.entry.precision}")
    opened = load_engine(open_bundle(directory), "image", backend=runtime)
    frames = golden_frames()
    rows = np.concatenate([opened.run(frame[None]).copy() for frame in frames])
    np.testing.assert_allclose(rows, reference(Weights(), frames), atol=1e-2)
    opened.close()
