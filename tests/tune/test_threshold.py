from __future__ import annotations

import numpy as np
import pytest

from edgeclip.errors import DataError
from edgeclip.runtime.presence import Rule
from edgeclip.runtime.watches import Watch
from edgeclip.tune.promise import parse_promise
from edgeclip.tune.series import Piece, Series, count_alarms, join
from edgeclip.tune.threshold import as_log_odds, as_probability, check_length, fit_threshold

DOG = Watch(name="a dog")


def background(hours: float, seed: int, memory: float = 0.8, fps: float = 1.0) -> Series:
    """An AR(1) of normal scores around -6, correlated over about 1 / (1 - memory) frames."""
    count = round(hours * 3600 * fps)
    random, values = np.random.default_rng(seed), np.empty(count)
    noise = random.normal(size=count) * np.sqrt(1.0 - memory**2)
    values[0] = random.normal()
    for at in range(1, count):
        values[at] = memory * values[at - 1] + noise[at]
    return join([Piece(np.arange(count) / fps, 2.0 * values - 6.0)], 0.0, 1.0)


def test_the_promise_is_kept_on_other_footage_of_the_same_kind() -> None:
    promise = parse_promise("1/hour")
    alarms, seconds = 0, 0.0
    for seed in range(3):
        fitted = fit_threshold(background(2.0, seed), DOG, promise)
        other = background(10.0, 100 + seed)
        alarms += count_alarms(other, Rule(fitted.enter, fitted.leave))
        seconds += other.seconds
        assert fitted.rate[1] <= fitted.rate[0] <= fitted.rate[2] == promise.per_s
        assert fitted.leave < fitted.enter
    ratio = alarms / (promise.per_s * seconds)
    assert 0.02 <= ratio <= 1.2, f"{alarms} alarms in {seconds / 3600:.0f} h"


def test_a_stricter_promise_asks_for_a_higher_threshold() -> None:
    series = background(3.0, 7)
    enters = [fit_threshold(series, DOG, parse_promise(text)).enter for text in ("6/hour", "1/hour", "1/day")]
    assert enters == sorted(enters)
    assert enters[0] < enters[2]


def test_short_footage_is_refused_in_plain_words() -> None:
    with pytest.raises(DataError) as refused:
        check_length(660.0, parse_promise("1/day"))
    assert refused.value.message == ("11 min of footage support at best 1 false alarm per 1.8 h; 1/day was asked for")
    assert refused.value.hint == ("give 2.4 h of footage in all (2.2 h more), or ask for --false-alarms 1/hour")
    assert refused.value.exit_code == 65
    check_length(8640.0, parse_promise("1/day"))


def test_a_still_scene_is_refused_for_lack_of_independent_stretches() -> None:
    slow = np.repeat(np.random.default_rng(0).normal(size=12), 600)
    series = join([Piece(np.arange(7200.0), slow)], 0.0, 1.0)
    with pytest.raises(DataError, match=r"independent of each other, and 30 are needed") as refused:
        fit_threshold(series, DOG, parse_promise("1/hour"))
    assert "watch 'a dog'" in refused.value.message
    assert "in which more happens" in refused.value.hint


def test_pieces_are_apart_and_outages_are_no_footage() -> None:
    clock_s = np.concatenate([np.arange(100.0), np.arange(5000.0, 5100.0)])
    piece = Piece(clock_s, np.zeros(200))
    assert piece.seconds == pytest.approx(204.0)  # the outage counts as 5 s
    both = join([piece, piece], 0.0, 1.0)
    assert both.seconds == pytest.approx(408.0)
    assert (np.diff(both.clock_s) > 0.0).all()


def test_log_odds_and_probabilities_are_each_other_s_inverse_far_out() -> None:
    for odds in (-25.0, -3.0, 0.0, 8.0, 25.0):
        assert as_log_odds(np.array([as_probability(odds)]))[0] == pytest.approx(odds, abs=1e-4)
