"""The threshold of one watch that keeps a promise: fitted to what its background footage reached, or refused."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeclip.errors import DataError
from edgeclip.runtime.evidence import LIMIT
from edgeclip.runtime.presence import Rule
from edgeclip.runtime.watches import LEAVE_BELOW, Watch
from edgeclip.tune.clusters import Clusters, Values, decluster
from edgeclip.tune.promise import Promise, said, strictest
from edgeclip.tune.series import Series, count_alarms
from edgeclip.tune.tail import Tail, goodness

REACH = 10.0  # the rarest event promised may be so many times rarer than the footage is long
ENOUGH = 30  # independent peaks that a tail is fitted to, at least
MOST = 300  # and at most: the highest say most about what is higher still
QUANTILES = 1.0 - np.geomspace(0.5, 2e-4, 34)  # of levels, tried as the threshold of the tail
FITS = 0.1  # p-value from which on the tail is taken to fit
HALF_LIVES = 4.0  # after which smoothing has forgotten a frame
USUALLY = 0.95  # share of the background that must lie below `leave`, so that what began ends
ALIKE = 0.01  # p-value below which two halves of the footage are not alike


@dataclass(frozen=True, slots=True)
class Fitted:
    """Log-odds thresholds and what they rest on.

    tail: its peaks; clusters, of which they are. goodness: p-value of the fit. drift: p-value of peaks being spread
    over both halves of the footage alike. alarms_per_cluster: how often one independent event raises the watch.
    rate: false alarms a second at `enter`: most likely, and the interval's two ends. on_footage: counted there.
    """

    enter: float
    leave: float
    tail: Tail
    clusters: Clusters
    goodness: float
    drift: float
    alarms_per_cluster: float
    rate: tuple[float, float, float]
    on_footage: int


def check_length(seconds: float, promise: Promise, what: str = "") -> None:
    """Raises DataError where so much footage cannot support the promise, whatever is in it."""
    period_s, most_s = 1.0 / promise.per_s, REACH * seconds
    if most_s >= period_s * (1.0 - 1e-9):
        return
    raise DataError(
        f"{what}{said(seconds)} of footage support at best 1 false alarm per {said(most_s)}; "
        f"{promise.text} was asked for",
        _more(seconds, period_s / REACH, most_s),
    )


def fit_threshold(series: Series, watch: Watch, promise: Promise) -> Fitted:
    """The lowest `enter` at which the upper end of the interval of the false-alarm rate keeps the promise.

    Raises DataError where the footage does not support it.
    """
    named = f"watch {watch.name!r}: "
    check_length(series.seconds, promise, named)
    gap = hysteresis(series)
    least_run_s = watch.dwell_s + HALF_LIVES * watch.smoothing_s
    tail, clusters, quality = _tail(series, least_run_s, promise, named)
    repeats = _repeats(series, watch, tail.threshold, clusters, gap)
    per_s = promise.per_s / repeats
    enter = tail.level_bound(per_s)
    if enter >= LIMIT - 1.0:
        raise DataError(
            f"{named}no threshold keeps {promise.text}: the background reaches log-odds {series.levels.max():.1f}",
            "name what it is taken for under `negatives`, or choose other prompts",
        )
    likely, low = tail.rate(enter)
    leave = max(enter - gap, float(np.quantile(series.scores, USUALLY)))
    return Fitted(
        enter=enter,
        leave=min(leave, enter - LEAVE_BELOW / 4.0),
        tail=tail,
        clusters=clusters,
        goodness=quality,
        drift=_drift(series, tail.threshold, clusters.run_s),
        alarms_per_cluster=repeats,
        rate=(min(likely * repeats, promise.per_s), low * repeats, promise.per_s),
        on_footage=count_alarms(series, _rule(watch, enter, leave)),
    )


def hysteresis(series: Series) -> float:
    """From `enter` down to `leave`: three deviations of a score's step to the next frame, at least the usual."""
    steps = np.abs(np.diff(series.scores))
    strays = 1.4826 * float(np.median(steps)) if len(steps) else 0.0
    return min(max(LEAVE_BELOW, 3.0 * strays), 3.0 * LEAVE_BELOW)


def _tail(series: Series, least_run_s: float, promise: Promise, named: str) -> tuple[Tail, Clusters, float]:
    """The lowest threshold above which the peaks follow their distribution; of none, the highest with enough peaks."""
    levels = series.levels[np.isfinite(series.levels)]
    best: tuple[Tail, Clusters, float] | None = None
    most = 0
    for threshold in np.unique(np.quantile(levels, QUANTILES)) if len(levels) else ():
        clusters = decluster(series.levels, series.clock_s, float(threshold), least_run_s)
        count = len(clusters.peaks)
        most = max(most, count)
        if count < ENOUGH or count > MOST or count / series.seconds < 2.0 * promise.per_s:
            continue
        tail = Tail(float(threshold), clusters.peaks - threshold, series.seconds)
        best = tail, clusters, goodness(tail.excesses)
        if best[2] >= FITS:
            break
    if best is not None:
        return best
    if most < ENOUGH:
        needed_s = series.seconds * ENOUGH / max(most, 1)
        raise DataError(
            f"{named}{said(series.seconds)} of footage hold {most} stretches that are independent of each other, and "
            f"{ENOUGH} are needed to promise anything",
            f"give about {said(needed_s)} of footage in all, in which more happens",
        )
    raise DataError(
        f"{named}{promise.text} is more than this background can be held to: it has {most} independent peaks in "
        f"{said(series.seconds)}",
        f"ask for fewer false alarms: --false-alarms {strictest(REACH * series.seconds)}",
    )


def _repeats(series: Series, watch: Watch, threshold: float, clusters: Clusters, gap: float) -> float:
    """Alarms for each cluster, at the tail's threshold and at the level of its upper fifth, the larger."""
    found = 1.0
    for level in (threshold, float(np.quantile(clusters.peaks, 0.8))):
        passed = int((clusters.peaks > level).sum())
        alarms = count_alarms(series, _rule(watch, np.nextafter(level, np.inf), level - gap))
        found = max(found, alarms / max(passed, 1))
    return found


def _drift(series: Series, threshold: float, run_s: float) -> float:
    """p-value of the peaks of both halves being equally many (a binomial test, by its normal approximation)."""
    middle = len(series.levels) // 2
    halves = [
        len(decluster(series.levels[part], series.clock_s[part], threshold, run_s).peaks)
        for part in (slice(None, middle), slice(middle, None))
    ]
    deviation = max(abs(halves[0] - halves[1]) - 1.0, 0.0) / math.sqrt(max(sum(halves), 1))
    return math.erfc(deviation / math.sqrt(2.0))


def _rule(watch: Watch, enter: float, leave: float) -> Rule:
    return Rule(float(enter), float(leave), watch.dwell_s, watch.agree, watch.cooldown_s)


def _more(have_s: float, needed_s: float, most_s: float) -> str:
    return (
        f"give {said(needed_s)} of footage in all ({said(needed_s - have_s)} more), or ask for "
        f"--false-alarms {strictest(most_s)}"
    )


def as_probability(log_odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-log_odds))


def as_log_odds(probabilities: Values) -> Values:
    """Of what the runtime shows; 0 and 1 are the limits of its scores."""
    inside = np.clip(probabilities, as_probability(-LIMIT), as_probability(LIMIT))
    odds: Values = np.log(inside) - np.log1p(-inside)
    return odds
