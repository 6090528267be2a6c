from __future__ import annotations

import numpy as np
import pytest

from edgeclip.tune.tail import SHAPE, SPREAD, Tail, fit, goodness

HOURS_S = 3600.0


def pareto(shape: float, scale: float, count: int, random: np.random.Generator) -> np.ndarray:
    lost = -np.log(random.random(count))
    return scale * (lost if shape == 0.0 else np.expm1(shape * lost) / shape)


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.2])
def test_shape_and_scale_of_a_generalised_pareto_sample_are_found(shape: float) -> None:
    found, scale = fit(pareto(shape, 1.5, 4000, np.random.default_rng(1)))
    assert found == pytest.approx(shape, abs=0.06)
    assert scale == pytest.approx(1.5, rel=0.08)


def test_the_bound_keeps_the_promise_as_often_as_it_says() -> None:
    """3 h of footage, 50 peaks, a promise of one in 30 h: the true rate at the bound, over 60 watches whose shapes
    differ as those of real watches do."""
    random, seconds, promised, ratios = np.random.default_rng(2), 3 * HOURS_S, 1 / (30 * HOURS_S), []
    for shape in random.normal(SHAPE, SPREAD, 60).tolist():
        tail = Tail(0.0, pareto(shape, 1.0, random.poisson(50), random), seconds)
        beyond = max(1.0 + shape * tail.level_bound(promised), 0.0) ** (-1.0 / shape)
        ratios.append(50 / seconds * beyond / promised)
    assert sum(ratio <= 1.0 for ratio in ratios) >= 53  # 95 % are 57; fewer than 53 would come once in 80
    assert np.quantile(ratios, 0.75) > 0.005, "a threshold that never lets anything through keeps every promise"


def test_peaks_of_gumbel_maxima_are_extrapolated_with_their_interval() -> None:
    random = np.random.default_rng(4)
    blocks = random.gumbel(size=2000)  # one in 10 s
    threshold = float(np.quantile(blocks, 0.9))
    tail = Tail(threshold, blocks[blocks > threshold] - threshold, 20_000.0)
    level = tail.level_bound(1 / 200_000)
    true = (1.0 - np.exp(-np.exp(-level))) / 10.0
    likely, low = tail.rate(level)
    assert low <= true <= 1 / 200_000
    assert 0.0 < low <= likely < 1 / 200_000
    assert tail.level(1 / 200_000) < level


def test_goodness_tells_a_tail_from_two_heaps() -> None:
    random = np.random.default_rng(5)
    assert goodness(pareto(0.0, 1.0, 150, random)) > 0.05
    heaps = np.concatenate([random.normal(1.0, 0.05, 75), random.normal(4.0, 0.05, 75)])
    assert goodness(np.abs(heaps)) < 0.02
