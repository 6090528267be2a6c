"""What shots say by themselves, on a made-up space where pictures lie in a narrow cone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edgeclip.runtime.shown import Shown, shown_by

Array = npt.NDArray[np.float32]
DIM = 64
RANDOM = np.random.default_rng(0)
CONE = RANDOM.normal(size=DIM)


def unit(rows: npt.NDArray[np.floating]) -> Array:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


TRUTH = unit(RANDOM.normal(size=(12, DIM)))


def pictures(rows: list[int]) -> Array:
    return unit(0.12 * CONE + TRUTH[rows] + 0.09 * RANDOM.normal(size=(len(rows), DIM)))


BACKGROUND = pictures(list(range(4, 12)))


def shown(count: int, rows: tuple[int, ...] = (0, 1), text: float = 0.0) -> Shown:
    own = np.repeat(np.arange(len(rows)), count)
    return shown_by(pictures(own.tolist()), own, rows, BACKGROUND, np.full(len(rows), text, np.float32))


@pytest.mark.parametrize("count", [1, 4, 16])
def test_a_frame_that_is_like_the_shots_speaks_for_their_label_alone(count: int) -> None:
    for picture in pictures([0] * 20)[:, None]:
        own, other = shown(count).log_odds(picture)
        assert own > 0.0 > -0.5 > other
    assert np.mean([shown(count).log_odds(picture[None]).max() > 0.0 for picture in pictures([5, 6, 7] * 20)]) < 0.1


def test_shots_say_the_more_the_less_the_text_knows() -> None:
    images = pictures([0, 0, 0])
    for text in (0.0, 0.5, 1.0):
        ours, odds = shown(4, text=text), np.full(3, -6.0, np.float32)
        own = ours.log_odds(images[:2])
        ours.blend(odds, images)
        np.testing.assert_allclose(odds[:2], text * -6.0 + (1.0 - text) * own, rtol=1e-4)
        assert odds[2] == -6.0  # a watch that was not taught


def test_a_label_that_is_not_asked_for_is_told_from() -> None:
    """The two look alike: where both were taught, the picture of the other is none of this one."""
    near = unit(TRUTH[0] + 0.8 * TRUTH[1])
    shots = unit(0.12 * CONE + np.repeat([TRUTH[0], near], 8, axis=0) + 0.09 * RANDOM.normal(size=(16, DIM)))
    own, text = np.repeat([0, 1], 8), np.zeros(2, np.float32)
    both = shown_by(shots, own, [0, -1], BACKGROUND, text)
    alone = shown_by(shots[:8], own[:8], [0], BACKGROUND, text[:1])
    assert both.rows.tolist() == [0]
    assert both.even[0] > alone.even[0] + 0.03


def test_one_of_many_labels_is_known_by_chance_more_often() -> None:
    image = pictures([0])
    few, many = shown(4, (0, 1)), shown(4, tuple(range(8)))
    assert few.known(image) - many.known(image) == pytest.approx(np.log(4), abs=1.5)
    assert few.known(image) == pytest.approx(few.log_odds(image).max() - np.log(2), abs=1e-4)
