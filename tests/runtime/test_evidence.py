from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeclip.runtime.evidence import (
    EVEN,
    LIMIT,
    MATCHED,
    Null,
    Unknown,
    alike,
    likeness,
    log_odds,
    measure_null,
    probability,
    unknown_level,
)

NULL = Null(mean=0.2, spread=0.02, scene=2.0, scale=100.0)
NONE = np.empty((1, 0), np.float32)
COSINES = st.floats(-1.0, 1.0, width=32)


def row(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def scene_of(null: Null) -> np.ndarray:
    """A background text that is as like the frame as it is on average."""
    return row(null.scene / null.scale)[None]


def test_a_text_is_as_likely_right_as_wrong_at_the_even_point_of_its_space() -> None:
    even = row(NULL.mean + EVEN * NULL.spread)
    assert probability(log_odds(even, NONE, scene_of(NULL), NULL))[0] == pytest.approx(0.5, abs=1e-3)
    assert probability(log_odds(even + 0.02, NONE, scene_of(NULL), NULL))[0] > 0.85
    assert probability(log_odds(even - 0.02, NONE, scene_of(NULL), NULL))[0] < 0.15


def test_a_negative_that_fits_better_takes_the_watch_away() -> None:
    likely = row(0.3)
    alone = log_odds(likely, NONE, scene_of(NULL), NULL)[0]
    far = log_odds(likely, row(0.1)[None], scene_of(NULL), NULL)[0]
    near = log_odds(likely, row(0.32)[None], scene_of(NULL), NULL)[0]
    assert far == pytest.approx(alone, abs=1e-3)
    assert near < -1.9  # 0.02 of cosine is 2 of logit in this space


def test_a_frame_that_is_like_the_background_needs_more() -> None:
    calm, loud = (log_odds(row(0.3), NONE, row(cosine)[None], NULL)[0] for cosine in (0.02, 0.1))
    assert calm - loud == pytest.approx(0.25 * 100 * 0.08, abs=1e-3)


def test_texts_that_do_not_count_count_nothing() -> None:
    absent = np.full((2, 3), -np.inf, np.float32)
    found = log_odds(row(0.3, 0.1), absent, scene_of(NULL).repeat(2, axis=0), NULL)
    np.testing.assert_allclose(found, log_odds(row(0.3, 0.1), np.empty((2, 0), np.float32), scene_of(NULL), NULL))
    assert likeness(absent, 100.0).tolist() == [-np.inf, -np.inf]


@given(COSINES, COSINES, COSINES)
def test_log_odds_are_finite_and_rise_with_the_cosine(positive: float, negative: float, scene: float) -> None:
    pair = row(positive, min(positive + 0.1, 1.0))
    found = log_odds(pair, row(negative)[None].repeat(2, 0), row(scene)[None].repeat(2, 0), NULL)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= LIMIT
    assert found[1] >= found[0]


def test_texts_are_alike_in_what_they_do_not_share_with_all_others() -> None:
    common = np.array([3.0, 0.0, 0.0], np.float32)
    texts = common + np.array([[0, 1, 0], [0, 0.9, 0.1], [0, -1, 0]], np.float32)
    found = alike(texts, texts, common)
    assert found[0, 1] > 0.95
    assert found[0, 2] == pytest.approx(-1.0)


def test_the_null_is_that_of_unrelated_pairs() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(220, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    null = measure_null(vectors[:20], vectors[20:], 50.0)
    assert null.mean == pytest.approx(0.0, abs=0.02)
    assert null.spread == pytest.approx(1 / 8, abs=0.02)
    assert null.scene == pytest.approx(np.log(np.exp(50 * vectors[:20] @ vectors[20:].T).sum(axis=1)).mean(), rel=1e-4)


def test_more_labels_and_a_higher_rate_need_a_higher_best() -> None:
    assert unknown_level(1, 0.5) == pytest.approx(MATCHED[0], abs=1e-3)
    levels = [unknown_level(count, 0.05) for count in (1, 10, 100, 1000)]
    assert levels == sorted(levels)
    assert unknown_level(10, 0.2) > unknown_level(10, 0.05)


def test_the_unknown_level_keeps_its_rate_where_cosines_are_as_assumed() -> None:
    rng = np.random.default_rng(5)
    best = np.maximum(rng.normal(3.26, 1.16, 20_000), rng.normal(-0.2, 1.03, (20_000, 9)).max(axis=1))
    assert np.mean(best < unknown_level(10, 0.05)) == pytest.approx(0.05, abs=0.006)


def test_unknown_is_even_at_its_level_whatever_the_number_of_labels() -> None:
    for labels in (1, 7):
        unknown = Unknown(NULL, 0.05)
        unknown.among(labels)
        level = NULL.mean + unknown_level(labels, 0.05) * NULL.spread
        cosines = np.full((1, labels), -1.0, np.float32)
        found = []
        for best in (level, level + 0.1, level - 0.1, 1.0, -1.0):
            cosines[0, -1] = best
            found.append(float(unknown.probability(cosines)[0]))
        assert found[0] == pytest.approx(0.5, abs=1e-3)
        assert found[1] < 0.01 < 0.99 < found[2]
        assert np.isfinite(found).all()
