from __future__ import annotations

import numpy as np
import pytest

from edgeclip.bundle import Preprocess
from edgeclip.region import WHOLE, Region
from edgeclip.runtime.crops import Crops, cut_of
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.types import Pixels

FACTS = Preprocess((32, 32), "shortest", "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
LEFT, RIGHT = Region(box=(0, 0, 0.5, 1)), Region(box=(0.5, 0, 1, 1))


def halves(left: int = 50, right: int = 200) -> Pixels:
    """[120, 160, 3], its two halves of one grey each."""
    picture = np.full((120, 160, 3), left, np.uint8)
    picture[:, 80:] = right
    return picture


def test_without_regions_the_preprocessors_own_buffer_is_handed_on() -> None:
    whole = Preprocessor(FACTS)
    assert Crops(whole)(halves(), WHOLE) is whole(halves())


def test_one_row_for_the_frame_and_one_for_each_region() -> None:
    picture = halves()
    batch = Crops(Preprocessor(FACTS))(picture, (None, LEFT, RIGHT))
    assert batch.shape == (3, 32, 32, 3)
    np.testing.assert_array_equal(batch[0], Preprocessor(FACTS)(picture)[0])
    assert (batch[1] == 50).all()
    assert (batch[2] == 200).all()


def test_the_buffer_follows_regions_and_frame_sizes() -> None:
    crops = Crops(Preprocessor(FACTS))
    assert (crops(halves(), (None, LEFT))[1] == 50).all()
    assert (crops(halves(), (None, RIGHT))[1] == 200).all()
    larger = halves().repeat(2, axis=0)
    assert (crops(larger, (None, RIGHT, LEFT))[2] == 50).all()


def test_outside_of_a_polygon_is_its_own_mean_and_the_frame_stays_as_it_is() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[:50] = 240
    before = picture.copy()
    upper = Region(polygon=((0.0, 0.0), (1.0, 0.0), (0.5, 0.48)))  # white only
    cut = cut_of(100, 100, upper, 1.0).apply(picture)
    assert (cut >= 239).all()
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("box", [(0.0, 0.4, 1.0, 0.5), (0.3, 0.0, 0.35, 1.0), (0.99, 0.99, 1.0, 1.0)])
def test_a_long_region_is_seen_whole(box: tuple[float, float, float, float]) -> None:
    cut = cut_of(120, 160, Region(box=box), 1.0)
    picture = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)
    canvas = cut.apply(picture)
    part = picture[cut.rows, cut.columns]
    assert abs(canvas.shape[0] - canvas.shape[1]) <= 1
    assert part.size
    np.testing.assert_array_equal(canvas[cut.at], part)
    outside = np.ones(canvas.shape[:2], bool)
    outside[cut.at] = False
    assert np.abs(canvas[outside].astype(float) - part.mean(axis=(0, 1))).max(initial=0.0) <= 0.51
