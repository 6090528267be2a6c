from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeclip.capture.diversity import GAIN, Pool, distances, farthest_first

Rows = npt.NDArray[np.float32]


def unit(rows: npt.NDArray[np.floating]) -> Rows:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def stream(seed: int, count: int, dim: int = 8) -> Rows:
    """Mostly small steps from one place, now and then a jump: what a camera's embeddings do."""
    random = np.random.default_rng(seed)
    home = random.standard_normal(dim)
    jumps = random.random(count) < 0.05
    steps = np.where(
        jumps[:, None], random.standard_normal((count, dim)) * 2, random.standard_normal((count, dim)) * 0.02
    )
    return unit(home + steps)


def fill(pool: Pool, rows: Rows) -> list[float]:
    """The closest pair's distance after each row that found the pool full."""
    closest = []
    for row in rows:
        full = pool.count == pool.capacity
        offer = pool.offer(row)
        if offer.slot is not None:
            pool.put(offer.slot, row)
        if full:
            closest.append(pool.closest)
    return closest


def closest_pair(rows: Rows) -> float:
    apart = np.sqrt(np.maximum(2 - 2 * rows @ rows.T, 0))
    return float(apart[~np.eye(len(rows), dtype=bool)].min())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), capacity=st.integers(2, 12), count=st.integers(1, 120))
def test_the_closest_pair_never_comes_closer_once_the_pool_is_full(seed: int, capacity: int, count: int) -> None:
    rows = stream(seed, count)
    pool = Pool(capacity, rows.shape[1])
    closest = fill(pool, rows)
    assert pool.count <= capacity
    if pool.count > 1:
        assert pool.closest == pytest.approx(closest_pair(pool.embeddings), abs=2e-3)
    assert all(after >= before - 1e-6 for before, after in itertools.pairwise(closest))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_is_refused_lies_near_something_kept_at_that_time(seed: int) -> None:
    pool = Pool(8, 8)
    for row in stream(seed, 150):
        offer = pool.offer(row)
        if offer.slot is None:
            assert offer.distance <= GAIN * pool.closest
            assert offer.distance == pytest.approx(float(distances(pool.embeddings, row).min()))
        else:
            pool.put(offer.slot, row)


def test_one_pass_comes_near_to_what_all_frames_at_once_allow_and_far_above_every_nth() -> None:
    ratios, gains = [], []
    for seed in range(10):
        rows = stream(seed, 800)
        pool = Pool(24, rows.shape[1])
        fill(pool, rows)
        offline = closest_pair(rows[farthest_first(rows, 24)])
        uniform = closest_pair(rows[np.linspace(0, len(rows) - 1, 24).astype(int)])
        ratios.append(pool.closest / offline)
        gains.append(pool.closest / uniform)
    assert np.mean(ratios) > 0.8
    assert min(ratios) > 0.5  # the factor of two of streaming k-centre
    assert min(gains) > 3


def test_rows_nearer_than_the_floor_are_one() -> None:
    pool = Pool(4, 2, floor=0.1)
    angles = np.array([0.0, 0.05, 0.2, 0.25])
    fill(pool, unit(np.stack([np.cos(angles), np.sin(angles)], axis=1)))
    assert pool.count == 2


def test_of_the_closest_pair_the_more_crowded_one_goes() -> None:
    angles = np.array([0.0, 0.1, 0.3, 1.5])  # the pair is 0 and 0.1; 0.1 has 0.3 for its next neighbour
    rows = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    pool = Pool(3, 2)
    fill(pool, rows[:3])
    assert pool.offer(rows[3]).slot == 1


def test_a_pool_of_one_keeps_its_first() -> None:
    pool = Pool(1, 2)
    fill(pool, np.eye(2, dtype=np.float32))
    assert pool.count == 1
    assert pool.offer(np.array([0.0, 1.0], np.float32)).slot is None


def test_farthest_first_begins_with_the_usual_and_goes_on_with_the_farthest() -> None:
    rows = unit(np.array([[1, 0], [1, 0.1], [1, -0.1], [0, 1], [0.2, 1]], np.float64))
    order = farthest_first(rows)
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert order[:2] in ([1, 3], [1, 2], [0, 3])
    assert farthest_first(np.empty((0, 2), np.float32)) == []
