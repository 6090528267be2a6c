"""Thresholds: what each observer is for."""

from __future__ import annotations

import numpy as np
import pytest

from edgeclip.build.observers import fake_quantize, fake_quantize_columns, squared_error, threshold

NORMAL = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
OUTLIER = np.append(NORMAL, np.float32(300.0))


def test_min_max_takes_the_greatest_ever_seen() -> None:
    assert threshold("min-max", NORMAL, 7.5) == 7.5


@pytest.mark.parametrize("observer", ["percentile-99.9", "percentile-99.99", "entropy"])
def test_one_outlier_does_not_decide(observer: str) -> None:
    limit = threshold(observer, OUTLIER, 300.0)
    assert 2.5 < limit < 60.0
    assert squared_error(NORMAL, limit) < 0.2 * squared_error(NORMAL, 300.0)


def test_mse_keeps_an_outlier_that_costs_more_than_it_saves() -> None:
    heavy = np.append(NORMAL, np.full(20_000, 50.0, np.float32))
    assert threshold("mse", heavy, 50.0) > 45.0


def test_quantizing_is_exact_on_the_grid_and_clips_beyond_it() -> None:
    grid = np.arange(-127, 128, dtype=np.float32) / 127.0
    assert np.allclose(fake_quantize(grid, 1.0), grid, atol=1e-6)
    assert fake_quantize(np.array([5.0, -5.0], np.float32), 1.0) == pytest.approx([1.0, -128 / 127])


def test_weights_have_a_scale_for_every_output() -> None:
    weight = np.random.default_rng(1).normal(size=(32, 3)).astype(np.float32) * np.array([0.01, 1.0, 100.0], np.float32)
    error = np.abs(fake_quantize_columns(weight) - weight).max(0) / np.abs(weight).max(0)
    assert (error < 0.5 / 127 + 1e-6).all()


def test_zeros_and_unknown_observers() -> None:
    assert threshold("mse", np.zeros(8, np.float32), 0.0) > 0.0
    with pytest.raises(ValueError, match="no observer is called average"):
        threshold("average", NORMAL, 1.0)
