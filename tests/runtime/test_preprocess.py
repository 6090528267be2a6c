from __future__ import annotations

import importlib.util
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeclip.build.reference_preprocess import SIZES, parity, reference, resized
from edgeclip.bundle import Preprocess
from edgeclip.errors import DataError
from edgeclip.runtime.preprocess import PLANS, SMALL_PRODUCT, Preprocessor, Scratch, filter_weights, placement
from edgeclip.types import Embeddings, Pixels

PHOTOGRAPHS = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg", "motorcycle_left.png")
RULES = ("shortest", "squash")
INTERPOLATIONS = ("bilinear", "bicubic")


def facts(size: tuple[int, int] = (96, 96), resize: str = "shortest", interpolation: str = "bicubic") -> Preprocess:
    return Preprocess(size, resize, interpolation, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def photographs() -> list[Pixels]:
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "data"
    pictures = [cv2.imread(str(folder / name)) for name in PHOTOGRAPHS]
    assert all(picture is not None for picture in pictures)
    return pictures


def difference(pixels: Pixels, wanted: Preprocess) -> np.ndarray:
    """Grey levels between the runtime and Pillow, per value."""
    return np.abs(reference(pixels, wanted).astype(np.int16) - Preprocessor(wanted)(pixels))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("resize", RULES)
@pytest.mark.parametrize("size", [(96, 96), (224, 224), (64, 160)])
def test_matches_pillow_at_every_size_and_aspect(
    photographs: list[Pixels], size: tuple[int, int], resize: str, interpolation: str
) -> None:
    wanted = facts(size, resize, interpolation)
    for number, (height, width) in enumerate(SIZES):
        pixels = resized(photographs[number % len(photographs)], height, width)
        assert difference(pixels, wanted).mean() < 0.75, f"{width}x{height}"


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 500), (3000, 3), (95, 97), (97, 4000)])
def test_tiny_and_very_long_pictures(size: tuple[int, int], interpolation: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    for resize in RULES:
        assert (
            difference(pixels, facts(resize=resize, interpolation=interpolation)).mean() < 1.5
        )  # noise is the worst case


def test_without_halving_it_is_pillow_but_for_rounding(photographs: list[Pixels]) -> None:
    for photograph in photographs:
        differences = difference(resized(photograph, 400, 540), facts())
        assert differences.max() <= 8  # where Pillow clips between its two passes, and here nothing is clipped
        assert differences.mean() < 0.2


def test_opencvs_own_resize_would_not_do(photographs: list[Pixels]) -> None:
    """What the parity limits above can tell apart."""
    pixels = resized(photographs[1], 720, 720)
    naive = cv2.cvtColor(cv2.resize(pixels, (96, 96), interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB)
    wanted = reference(pixels, facts(interpolation="bilinear"))[0]
    assert np.abs(wanted.astype(np.int16) - naive).mean() > 3.0


def test_parity_reports_greys_and_cosines(photographs: list[Pixels]) -> None:
    def colours(batch: np.ndarray) -> Embeddings:
        mean = batch.reshape(1, -1, 3).mean(axis=1)
        return (mean / np.linalg.norm(mean)).astype(np.float32)

    figures = parity(photographs, facts(), colours)
    assert figures["pictures"] == 2 * len(photographs)
    assert 0 < figures["mae"] <= figures["mae_p99"] <= figures["mae_max"] < 0.75
    assert 0.9999 < figures["cosine_min"] <= figures["cosine_p1"] <= figures["cosine"] <= 1.0 + 1e-9
    assert "cosine" not in parity(photographs[:1], facts())
    with pytest.raises(DataError, match="at least one photograph"):
        parity([], facts())


def test_output_is_rgb_in_one_buffer_and_the_input_is_left_alone() -> None:
    preprocess = Preprocessor(facts((32, 32)))
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[..., 0] = 200  # blue
    before = pixels.copy()
    first = preprocess(pixels)
    assert first.shape == (1, 32, 32, 3)
    assert first.dtype == np.uint8
    assert first.flags.c_contiguous
    assert (first == [0, 0, 200]).all()
    assert (pixels == before).all()
    assert preprocess(np.zeros_like(pixels)) is first
    assert (first == 0).all()


def test_crops_the_middle() -> None:
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, 100:200] = 255
    assert (Preprocessor(facts((50, 50), interpolation="bilinear"))(pixels)[0, :, 1:-1] == 255).all()
    squashed = Preprocessor(facts((50, 60), "squash"))(pixels)[0]
    assert (squashed[:, 2:18] == 0).all()
    assert (squashed[:, 22:38] == 255).all()


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (480, 640, ((96, 0), (128, 16))),
        (640, 480, ((128, 16), (96, 0))),
        (427, 640, ((96, 0), (143, 24))),  # 143.88 is cut to 143, and 23.5 rounded to even, as torchvision does
        (333, 500, ((96, 0), (144, 24))),
    ],
)
def test_placement_is_torchvisions(height: int, width: int, expected: object) -> None:
    assert placement(height, width, facts()) == expected


def test_many_sizes_in_turn_give_what_each_gives_alone() -> None:
    random = np.random.default_rng(0)
    preprocess = Preprocessor(facts((24, 24)))
    pictures = [random.integers(0, 256, (30 + n, 60, 3), np.uint8) for n in range(PLANS + 5)]
    for pixels in pictures + pictures:
        assert (preprocess(pixels) == Preprocessor(facts((24, 24)))(pixels)).all()


def test_pictures_of_other_sizes_leave_no_memory_behind() -> None:
    """A camera comes back with another resolution, again and again: what the largest needs is all that is kept."""
    wanted, random = facts((112, 112)), np.random.default_rng(0)
    largest = random.integers(0, 256, (720, 1280, 3), np.uint8)
    others = [random.integers(0, 256, (300 + 8 * n, 500 + 8 * n, 3), np.uint8) for n in range(12)]
    Preprocessor(wanted)(largest)  # what numpy and OpenCV keep themselves
    tracemalloc.start()
    try:
        preprocess = Preprocessor(wanted)
        preprocess(largest)
        one = tracemalloc.get_traced_memory()[0]
        for pixels in others:
            preprocess(pixels)
        assert tracemalloc.get_traced_memory()[0] - one < one / 4
    finally:
        tracemalloc.stop()


def test_preprocessors_of_one_thread_share_their_memory_and_disturb_no_batch() -> None:
    scratch, random = Scratch(), np.random.default_rng(0)
    preprocessors = [Preprocessor(facts((24, 24)), scratch) for _ in range(3)]
    sizes = [(40, 30), (30, 40), (400, 300), (24, 24), (700, 900), (40, 30)]  # the memory grows on the way, twice
    for size in sizes:
        pictures = [random.integers(0, 256, (*size, 3), np.uint8) for _ in preprocessors]
        batches = [preprocess(pixels) for preprocess, pixels in zip(preprocessors, pictures, strict=True)]
        for batch, pixels in zip(batches, pictures, strict=True):
            assert (batch == Preprocessor(facts((24, 24)))(pixels)).all()


@pytest.mark.parametrize(
    ("pixels", "complaint"),
    [
        (np.zeros((10, 10), np.uint8), "shape \\[10, 10\\]"),
        (np.zeros((10, 10, 4), np.uint8), "shape \\[10, 10, 4\\]"),
        (np.zeros((0, 10, 3), np.uint8), "shape \\[0, 10, 3\\]"),
        (np.zeros((10, 10, 3), np.uint16), "uint16"),
        (np.zeros((10, 10, 3), np.float32), "float32"),
    ],
)
def test_anything_else_is_refused(pixels: np.ndarray, complaint: str) -> None:
    preprocess = Preprocessor(facts())
    preprocess(np.zeros((10, 10, 3), np.uint8))  # a known size does not make the type right
    with pytest.raises(DataError, match=complaint):
        preprocess(pixels)


def test_a_window_of_a_larger_picture_works() -> None:
    whole = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    window = whole[20:180, 30:270]
    assert (Preprocessor(facts())(window) == Preprocessor(facts())(window.copy())).all()


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 500),
    width=st.integers(1, 500),
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    resize=st.sampled_from(RULES),
    interpolation=st.sampled_from(INTERPOLATIONS),
    level=st.integers(0, 255),
)
def test_one_colour_stays_that_colour(
    height: int, width: int, rows: int, columns: int, resize: str, interpolation: str, level: int
) -> None:
    batch = Preprocessor(facts((rows, columns), resize, interpolation))(np.full((height, width, 3), level, np.uint8))
    assert batch.shape == (1, rows, columns, 3)
    assert (batch == level).all()


def test_weights_sum_to_one_and_reach_as_far_as_the_filter() -> None:
    weights = filter_weights(1000, 100, 10, 20, "bilinear")
    assert weights.shape == (20, 1000)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    touched = np.flatnonzero(weights[0])
    assert (touched[0], touched[-1]) == (95, 114)  # 20 pixels around the middle of output pixel 10


def test_no_product_is_large_enough_to_wake_other_threads() -> None:
    """OpenBLAS's workers would spin on the cores that the engine needs."""
    from edgeclip.runtime import preprocess

    plan = preprocess._Plan(1080, 1920, facts((224, 224)), Scratch())
    for weights, band, result in [*plan._products, *plan._turned_products]:
        assert weights.shape[0] * weights.shape[1] * band.shape[1] <= SMALL_PRODUCT + weights.size
        assert result.shape == (weights.shape[0], band.shape[1])
