from __future__ import annotations

import numpy as np
import pytest

from edgeclip.runtime.sinks.annotate import BEST, annotate
from sinks.picture import decision, frame


def bar_length(picture: np.ndarray) -> int:
    """Pixels in the row where the best label's colour is longest."""
    return int((picture == np.array(BEST, np.uint8)).all(axis=2).sum(axis=1).max())


def test_the_bar_is_as_long_as_the_score_is_high() -> None:
    one = frame(height=480, width=640)
    full = bar_length(annotate(one.pixels, decision(one, {"cat": 1.0})))
    half = bar_length(annotate(one.pixels, decision(one, {"cat": 0.5})))
    assert full > 150
    assert half == pytest.approx(full / 2, abs=1)


def test_the_frame_is_untouched_and_the_rest_of_the_picture_too() -> None:
    one = frame(7, height=480, width=640)
    before = one.pixels.copy()
    picture = annotate(one.pixels, decision(one))
    assert (one.pixels == before).all()
    assert (picture[:200] == before[:200]).all()
    assert (picture != before).any()


@pytest.mark.parametrize("size", [(1, 1), (37, 53), (96, 96), (480, 641), (1080, 1920), (100, 2000), (3000, 90)])
def test_any_size_works_and_is_even_for_the_encoder(size: tuple[int, int]) -> None:
    one = frame(height=size[0], width=size[1])
    picture = annotate(one.pixels, decision(one, {f"label {number}": 0.05 for number in range(20)}, top=20))
    assert picture.dtype == np.uint8
    assert picture.shape[0] % 2 == 0
    assert picture.shape[1] % 2 == 0
    assert max(picture.shape) <= max(1920, *size)


def test_an_endless_label_and_foreign_letters_are_drawn() -> None:
    one = frame(height=480, width=640)
    annotate(one.pixels, decision(one, {"猫 Käse кот " * 40: 0.9, "": 0.1}))
