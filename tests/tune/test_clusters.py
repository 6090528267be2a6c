from __future__ import annotations

import numpy as np
import pytest

from edgeclip.runtime.presence import Presence, Rule
from edgeclip.tune.clusters import Values, alarm_levels, decluster


def max_autoregressive(index: float, count: int, seed: int = 0) -> Values:
    """A stationary series whose extremal index is `index` (Davis & Resnick 1989): x = max((1 - index) x', index z)."""
    frechet = -1.0 / np.log(np.random.default_rng(seed).random(count))
    values = np.empty(count)
    values[0] = frechet[0]
    for at in range(1, count):
        values[at] = max((1.0 - index) * values[at - 1], index * frechet[at])
    return values


@pytest.mark.parametrize("index", [0.2, 0.5, 1.0])
def test_the_extremal_index_of_a_series_is_found(index: float) -> None:
    series = max_autoregressive(index, 60_000)
    clusters = decluster(series, np.arange(60_000) * 0.5, float(np.quantile(series, 0.99)), 0.0)
    assert clusters.index == pytest.approx(index, abs=0.08)
    assert len(clusters.peaks) == pytest.approx(600 * index, rel=0.2)


def test_what_is_nearer_than_the_least_run_is_one_event() -> None:
    levels = np.array([0.0, 5.0, 0.0, 7.0, 0.0, 0.0, 0.0, 0.0, 6.0, 0.0])
    clock_s = np.arange(10.0)
    assert decluster(levels, clock_s, 1.0, 2.0).peaks.tolist() == [7.0, 6.0]
    assert decluster(levels, clock_s, 1.0, 5.0).peaks.tolist() == [7.0]
    assert not len(decluster(levels, clock_s, 9.0, 2.0).peaks)


@pytest.mark.parametrize(("dwell_s", "agree"), [(0.0, 1.0), (2.0, 1.0), (3.0, 0.7), (1.4, 0.5)])
def test_a_watch_begins_exactly_where_the_alarm_level_reaches_its_threshold(dwell_s: float, agree: float) -> None:
    random = np.random.default_rng(3)
    scores = np.repeat(random.normal(size=60), 4) + 0.3 * random.normal(size=240)
    clock_s = np.cumsum(random.choice([0.4, 0.5, 0.6], 240))
    levels = alarm_levels(scores, clock_s, dwell_s, agree)
    for enter in (0.2, 0.8, 1.3):
        presence = Presence("", Rule(enter, -100.0, dwell_s, agree))
        begun = [presence.update(s, round(t * 1e9), 0, 0) is not None for s, t in zip(scores, clock_s, strict=True)]
        first = begun.index(True) if any(begun) else None
        assert first == next(iter(np.flatnonzero(levels >= enter).tolist()), None)
