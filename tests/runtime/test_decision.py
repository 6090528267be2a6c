import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeclip.runtime.decision import Smoother, rank, smooth

S_NS = 1_000_000_000


def scores(*values):
    return np.array(values, np.float32)


def test_after_one_half_life_the_past_counts_half():
    np.testing.assert_allclose(smooth(scores(1, 0), scores(0, 1), 2.0, 2.0), [0.5, 0.5])
    np.testing.assert_allclose(smooth(scores(1, 0), scores(0, 1), 4.0, 2.0), [0.25, 0.75])


def test_without_half_life_nothing_is_smoothed():
    np.testing.assert_array_equal(smooth(scores(1, 0), scores(0, 1), 0.0, 0.0), [0, 1])


@given(st.floats(0, 1e6), st.floats(1e-3, 1e3), st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_a_smoothed_score_lies_between_the_two(elapsed_s, half_life_s, before, now):
    smoothed = smooth(scores(before), scores(now), elapsed_s, half_life_s)
    assert smoothed.dtype == np.float32
    assert min(before, now) - 1e-6 <= smoothed[0] <= max(before, now) + 1e-6


def test_smoothing_does_not_depend_on_the_frame_rate():
    slow, fast = Smoother(1.0), Smoother(1.0)
    for smoother, steps in ((slow, 2), (fast, 40)):
        smoother.update(scores(1, 0), 0)
        for step in range(1, steps + 1):
            last = smoother.update(scores(0, 1), step * 2 * S_NS // steps)
        np.testing.assert_allclose(last, [0.25, 0.75], atol=1e-5)


@given(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.9]), max_size=30), st.integers(0, 40))
def test_rank_is_a_stable_sort_cut_short(values, top_k):
    expected = sorted(range(len(values)), key=lambda index: -np.float32(values[index]))[:top_k]
    assert rank(scores(*values), top_k) == tuple(expected)


def test_the_first_scores_pass_unchanged_and_results_are_never_overwritten():
    row = scores(0.2, 0.8)
    smoother = Smoother(1.0)
    first = smoother.update(row, 0)
    row[:] = 0  # the caller's buffer is used again for the next frame
    np.testing.assert_array_equal(first, scores(0.2, 0.8))
    smoother.update(row, S_NS)
    np.testing.assert_array_equal(first, scores(0.2, 0.8))


def test_unsmoothed_results_are_never_overwritten_either():
    row = scores(0.2, 0.8)
    smoother = Smoother(0.0)
    smoother.update(row, 0)
    second = smoother.update(row, S_NS)
    row[:] = 0
    np.testing.assert_array_equal(second, scores(0.2, 0.8))


@pytest.mark.parametrize("change", ["reset", "clock", "labels"])
def test_it_starts_afresh(change):
    smoother = Smoother(1.0)
    smoother.update(scores(1, 0), 5 * S_NS)
    if change == "reset":
        smoother.reset()
    now = scores(0, 0, 1) if change == "labels" else scores(0, 1)
    np.testing.assert_array_equal(smoother.update(now, 4 * S_NS if change == "clock" else 6 * S_NS), now)


def test_each_score_can_have_a_half_life_of_its_own():
    each = np.array([0.0, 1.0, 2.0])
    np.testing.assert_allclose(smooth(scores(1, 1, 1), scores(0, 0, 0), 2.0, each), [0, 0.25, 0.5])
