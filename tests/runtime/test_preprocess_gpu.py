"""The CUDA kernel's arithmetic, on the host: the same source, compiled by g++, against preprocess.py and Pillow."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from host_gpu import alive, fail, host_gpu, needs_compiler
from PIL import Image

from edgeclip.bundle import Preprocess
from edgeclip.cuda import Cuda
from edgeclip.errors import DataError, EngineError
from edgeclip.nvrtc import compile_source, load_nvrtc
from edgeclip.runtime.preprocess import KERNELS, Preprocessor, filter_weights, placement
from edgeclip.runtime.preprocess_gpu import KERNEL, PLANS, SOURCE, GpuPreprocessor, taps

Picture = npt.NDArray[np.uint8]
SIZES = [(64, 64), (120, 160), (97, 203), (480, 640), (31, 500), (500, 31), (20, 24), (720, 1280)]


@pytest.fixture
def gpu() -> Iterator[Cuda]:
    before = alive()
    yield host_gpu()
    assert alive() == before  # everything is given back


def facts(resize: str, interpolation: str, size: tuple[int, int] = (48, 64)) -> Preprocess:
    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    return Preprocess(size, resize, interpolation, mean, std)  # type: ignore[arg-type]


def picture(height: int, width: int, seed: int = 0) -> Picture:
    """Edges, gradients and noise, so that a wrong filter shows."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([127 + 120 * np.sin(x / (3 + c) + y / 7) for c in range(3)], axis=2)
    waves[height // 3 : height // 2, width // 4 : width // 2] = (255, 0, 128)
    return np.clip(waves + random.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)


def by_matrices(pixels: Picture, facts: Preprocess) -> npt.NDArray[np.float64]:
    """What the filters say, in double precision: [H, W, 3] RGB, not rounded."""
    rows, columns = facts.size
    (tall, top), (wide, left) = placement(*pixels.shape[:2], facts)
    y = filter_weights(pixels.shape[0], tall, top, rows, facts.interpolation)
    x = filter_weights(pixels.shape[1], wide, left, columns, facts.interpolation)
    return np.clip(np.einsum("ah,bw,hwc->abc", y, x, pixels.astype(np.float64), optimize=True), 0, 255)[..., ::-1]


@needs_compiler
@pytest.mark.parametrize("interpolation", KERNELS)
@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_the_kernel_computes_the_filters(gpu: Cuda, resize: str, interpolation: str) -> None:
    chosen = facts(resize, interpolation)
    preprocess = GpuPreprocessor(chosen, gpu, b"ptx")
    for height, width in SIZES:
        pixels = picture(height, width)
        got = preprocess(pixels)
        assert got.shape == (1, 48, 64, 3)
        assert got.dtype == np.uint8
        assert np.abs(got[0] - by_matrices(pixels, chosen)).max() <= 0.51  # rounding, and float32 sums
    preprocess.close()


@needs_compiler
@pytest.mark.parametrize("interpolation", KERNELS)
def test_it_agrees_with_the_processors_preprocessing(gpu: Cuda, interpolation: str) -> None:
    for resize in ("shortest", "squash"):
        chosen = facts(resize, interpolation)
        gpus, processors = GpuPreprocessor(chosen, gpu, b"ptx"), Preprocessor(chosen)
        for height, width in SIZES:
            pixels = picture(height, width, seed=1)
            apart = np.abs(gpus(pixels).astype(np.int16) - processors(pixels))
            halved = height >= 6 * 48 or width >= 6 * 64  # the processor's way with large pictures is not exact
            assert apart.mean() < (1.5 if halved else 0.01)
            assert halved or apart.max() <= 1
        gpus.close()


@needs_compiler
@pytest.mark.parametrize(("interpolation", "filter_"), [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)])
def test_it_agrees_with_pillow(gpu: Cuda, interpolation: str, filter_: Image.Resampling) -> None:
    preprocess = GpuPreprocessor(facts("squash", interpolation), gpu, b"ptx")
    for height, width in SIZES:
        pixels = picture(height, width, seed=2)
        image = Image.fromarray(np.ascontiguousarray(pixels[..., ::-1])).resize((64, 48), filter_)
        apart = np.abs(preprocess(pixels)[0].astype(np.int16) - np.asarray(image))
        assert np.quantile(apart, 0.99) <= 2  # Pillow rounds and clips between its two passes
        assert apart.mean() < 0.4
    preprocess.close()


@needs_compiler
def test_sizes_that_come_and_go_are_forgotten_and_freed(gpu: Cuda) -> None:
    preprocess = GpuPreprocessor(facts("squash", "bilinear"), gpu, b"ptx")
    for width in range(20, 20 + 2 * PLANS):
        preprocess(picture(20, width))
    assert alive()["memory"] == 5 * PLANS
    preprocess.close()


@needs_compiler
def test_a_size_that_finds_no_memory_keeps_none(gpu: Cuda) -> None:
    preprocess = GpuPreprocessor(facts("squash", "bilinear"), gpu, b"ptx")
    before = alive()
    fail("cuMemAlloc_v2", 2)
    with pytest.raises(EngineError, match="cuMemAlloc_v2 failed"):
        preprocess(picture(40, 30))
    fail("", 0)
    assert alive() == before
    preprocess.close()


@needs_compiler
@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 0, 3), np.uint8), np.zeros((4, 4, 3), np.float32)]
)
def test_what_is_no_picture_is_refused(gpu: Cuda, pixels: Picture) -> None:
    preprocess = GpuPreprocessor(facts("squash", "bilinear"), gpu, b"ptx")
    with pytest.raises(DataError, match="a picture has"):
        preprocess(pixels)
    preprocess.close()


@needs_compiler
def test_cudas_errors_are_told_in_cudas_words() -> None:
    preprocess = GpuPreprocessor(facts("squash", "bilinear"), host_gpu(), b"ptx")
    fail("cuLaunchKernel", 700)
    with pytest.raises(EngineError, match="cuLaunchKernel failed: CUDA_ERROR: in the host's words") as caught:
        preprocess(picture(30, 30))
    assert caught.value.hint
    fail("", 0)
    preprocess.close()


@needs_compiler
def test_a_kernel_that_computes_something_else_is_not_used(gpu: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeclip.runtime import preprocess_gpu

    def wrong(*arguments: object) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        first, weights = taps(*arguments)  # type: ignore[arg-type]
        return first, weights * 0.9

    monkeypatch.setattr(preprocess_gpu, "taps", wrong)
    before = alive()
    with pytest.raises(EngineError, match="grey levels from the processor's"):
        GpuPreprocessor(facts("squash", "bilinear"), gpu, b"ptx")
    assert alive() == before


@pytest.mark.parametrize("interpolation", KERNELS)
@pytest.mark.parametrize(("length", "scaled"), [(1920, 96), (96, 96), (7, 96), (1, 8), (500, 97)])
def test_tables_are_the_filters_and_stay_inside(length: int, scaled: int, interpolation: str) -> None:
    dense = filter_weights(length, scaled, 0, scaled, interpolation)
    first, weights = taps(length, scaled, 0, scaled, interpolation)
    assert (first >= 0).all()
    assert (first + weights.shape[1] <= length).all()
    again = np.zeros_like(dense)
    for row, (begin, values) in enumerate(zip(first, weights, strict=True)):
        again[row, begin : begin + len(values)] = values
    np.testing.assert_allclose(again, dense, atol=1e-7)


def nvrtc_is_here() -> bool:
    try:
        load_nvrtc()
    except EngineError:
        return False
    return True


@pytest.mark.skipif(not nvrtc_is_here(), reason="no NVRTC here (pip install 'edgeclip[trt]', or a CUDA toolkit)")
def test_nvrtc_takes_the_source() -> None:
    """No GPU is needed to compile."""
    ptx = compile_source(SOURCE.read_text(encoding="utf-8"), SOURCE.name, (8, 7))
    assert f".entry {KERNEL}".encode() in ptx
    with pytest.raises(EngineError, match=r"NVRTC cannot compile bad\.cu: .*error"):
        compile_source("this is not CUDA", "bad.cu", (8, 7))
