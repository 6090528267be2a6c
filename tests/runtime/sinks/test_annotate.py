from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from edgeclip.runtime.sinks.annotate import BEST, ON, UNSURE, annotate
from edgeclip.types import WatchState
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
    annotate(one.pixels, decision(one, {"猫 Käse кот 🐕 " * 40: 0.9, "": 0.1}))


def test_a_picture_whose_name_is_not_utf8_is_drawn() -> None:
    one = frame(height=480, width=640)
    annotate(one.pixels, replace(decision(one), picture=os.fsdecode(b"shots/caf\xe9.jpg")))


def test_regions_are_drawn_and_a_watch_that_holds_stands_out() -> None:
    one = frame(height=480, width=640)
    outline = ((0.1, 0.1), (0.5, 0.1), (0.5, 0.4), (0.1, 0.4))
    watches = (WatchState("door", 0.9, 0.8, True, outline), WatchState("yard", 0.1, 0.8, False))
    before = annotate(one.pixels, decision(one))
    held = annotate(one.pixels, replace(decision(one), watches=watches))
    idle = annotate(one.pixels, replace(decision(one), watches=(replace(watches[0], on=False), watches[1])))
    on = (held == np.array(ON, np.uint8)).all(axis=2)
    assert on[48, 70:310].mean() > 0.9  # the upper edge
    assert not (idle == np.array(ON, np.uint8)).all(axis=2).any()
    assert (before[:190] == one.pixels[:190]).all()


def test_unknown_takes_the_place_of_the_best() -> None:
    one = frame(height=480, width=640)
    picture = annotate(one.pixels, replace(decision(one), unknown=0.9))
    assert bar_length(picture) == 0
    assert (picture == np.array(UNSURE, np.uint8)).all(axis=2).any()
