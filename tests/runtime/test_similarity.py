import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeclip.bundle import Scoring
from edgeclip.runtime.similarity import score, similarity

SOFTMAX = Scoring(kind="softmax", scale=100.0)
SIGMOID = Scoring(kind="sigmoid", scale=117.3, bias=-12.9)
ROWS = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_similarity_is_the_cosine_and_fills_the_buffer():
    random = np.random.default_rng(0)
    images, texts = unit(random.normal(size=(3, 16))), unit(random.normal(size=(7, 16)))
    expected = [[float(np.dot(image, text)) for text in texts] for image in images]
    buffer = np.empty((3, 7), np.float32)
    assert similarity(images, texts, out=buffer) is buffer
    np.testing.assert_allclose(buffer, expected, atol=1e-6)
    np.testing.assert_array_equal(similarity(images, texts), buffer)


def test_softmax_rows_sum_to_one_and_follow_the_definition():
    sims = np.array([[0.30, 0.25, 0.10], [1.0, -1.0, -1.0]], np.float32)
    exact = np.exp(100 * sims.astype(np.float64))
    np.testing.assert_allclose(score(sims, SOFTMAX), exact / exact.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-30)


def test_sigmoid_scores_each_label_alone_and_keeps_small_ones():
    sims = np.array([[0.15, 0.11, 0.0, -0.2]], np.float32)
    exact = 1 / (1 + np.exp(-(SIGMOID.scale * sims.astype(np.float64) + SIGMOID.bias)))
    np.testing.assert_allclose(score(sims, SIGMOID), exact, rtol=1e-4)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@given(ROWS, st.floats(0.01, 1000))
def test_scores_are_finite_in_range_and_keep_the_order(kind, row, scale):
    sims = np.array([row], np.float32)
    scores = score(sims, Scoring(kind=kind, scale=scale, bias=-500.0 if kind == "sigmoid" else 0.0))
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1 + 1e-6)).all()
    order = np.argsort(sims[0], kind="stable")
    assert (np.diff(scores[0][order]) >= 0).all()


@pytest.mark.parametrize("scoring", [SOFTMAX, SIGMOID])
def test_scoring_can_be_done_in_place_or_leaves_its_input_alone(scoring):
    sims = np.array([[0.3, 0.2, -0.4]], np.float32)
    kept = sims.copy()
    fresh = score(sims, scoring)
    np.testing.assert_array_equal(sims, kept)
    assert score(sims, scoring, out=sims) is sims
    np.testing.assert_array_equal(sims, fresh)
