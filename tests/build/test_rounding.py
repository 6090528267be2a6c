"""Weights rounded together: the outputs come nearer than with every weight's nearest."""

from __future__ import annotations

import numpy as np
import pytest

from edgeclip.build.observers import LEVELS
from edgeclip.build.rounding import column_scales, second_order


@pytest.mark.parametrize("channels", [24, 200])
def test_outputs_come_nearer_though_weights_do_not(channels: int) -> None:
    random = np.random.default_rng(0)
    mixing = random.normal(size=(8, channels)) + 0.2 * random.normal(size=(8, channels))
    rows = (random.normal(size=(600, 8)) @ mixing + 0.1 * random.normal(size=(600, channels))).astype(np.float32)
    weight = random.normal(size=(channels, 40)).astype(np.float32)
    weight[3] *= 30.0  # a wide input makes every column's step coarse
    scales, counts = column_scales(weight), np.ones(len(rows), np.float32)
    nearest, together = np.rint(weight / scales), second_order(weight, scales, rows, counts)
    assert together.dtype == np.int8
    assert np.abs(together.astype(int)).max() <= LEVELS

    def missed(integers: np.ndarray) -> float:
        return float(np.square(rows @ (integers * scales) - rows @ weight).sum())

    assert missed(together) < 0.25 * missed(nearest)
    assert np.square(together * scales - weight).sum() >= np.square(nearest * scales - weight).sum()


def test_a_channel_that_never_moves_breaks_nothing() -> None:
    random = np.random.default_rng(1)
    rows = random.normal(size=(50, 6)).astype(np.float32)
    rows[:, 2] = 0.0
    weight = random.normal(size=(6, 4)).astype(np.float32)
    weight[:, 1] = 0.0
    scales = column_scales(weight)
    integers = second_order(weight, scales, rows, np.ones(50, np.float32))
    assert np.all(integers[:, 1] == 0)
    assert np.abs(integers * scales - weight).max() < 2.0 * scales.max()
