"""From a series of scores to what happens independently: alarm levels, and clusters of high ones. Pure functions.

Neighbouring frames show the same thing. Counted one by one, an hour of them looks like much more evidence than it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

CHUNK = 1 << 20  # values of windows in memory at once
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Clusters:
    """Independent stretches above a threshold. peaks: [C] the highest level in each. run_s: what is apart by more is
    another one. index: the extremal index, 1 where every exceedance stands alone."""

    peaks: Values
    run_s: float
    index: float


def alarm_levels(scores: Values, clock_s: Values, dwell_s: float, agree: float) -> Values:
    """The highest `enter` with which a watch would begin at each frame [N], as runtime.presence counts votes.

    scores [N], smoothed; clock_s [N], not decreasing. -inf until dwell_s have passed.
    """
    if dwell_s <= 0.0:
        return scores.copy()
    first = np.searchsorted(clock_s, clock_s - dwell_s + ROUNDING, side="right") - 1
    sizes = np.arange(len(scores)) - first + 1
    levels = np.full(len(scores), -np.inf)
    for size in np.unique(sizes[first >= 0]).tolist():
        ends = np.flatnonzero((sizes == size) & (first >= 0))
        wanted = max(int(np.ceil(agree * size - ROUNDING)), 1)  # votes
        windows = np.lib.stride_tricks.sliding_window_view(scores, size)
        for some in np.array_split(ends, len(ends) * size // CHUNK + 1):
            sorted_up_to = np.partition(windows[some - size + 1], size - wanted, axis=1)[:, size - wanted]
            levels[some] = np.minimum(sorted_up_to, scores[some])
    return levels


def extremal_index(gaps: Values) -> float:
    """The intervals estimator of Ferro & Segers, Inference for clusters of extreme values, JRSS B 65 (2003), eq. 2-4.

    gaps: times between exceedances, in steps of the series [N - 1].
    """
    if not len(gaps):
        return 1.0
    shift = 0.0 if gaps.max() <= 2.0 else 1.0
    top = 2.0 * float((gaps - shift).sum()) ** 2
    bottom = len(gaps) * float(((gaps - shift) * (gaps - 2.0 * shift)).sum())
    return min(1.0, top / bottom) if bottom > 0.0 else 1.0


def decluster(levels: Values, clock_s: Values, threshold: float, least_run_s: float) -> Clusters:
    """Clusters of levels [N] above `threshold`: runs of exceedances with gaps of at most run_s between them.

    The run length follows from the extremal index (Ferro & Segers 2003, section 4), and is at least least_run_s.
    """
    above = np.flatnonzero(levels > threshold)
    if not len(above):
        return Clusters(np.empty(0), least_run_s, 1.0)
    gaps_s = np.diff(clock_s[above])
    step_s = max(float(np.median(np.diff(clock_s))), 1e-9)
    index = extremal_index(gaps_s / step_s)
    apart = min(int(index * len(gaps_s)), len(gaps_s))  # gaps between clusters
    run_s = least_run_s
    if apart < len(gaps_s):
        run_s = max(run_s, float(np.sort(gaps_s)[len(gaps_s) - apart - 1]))
    starts = np.concatenate([[0], np.flatnonzero(gaps_s > run_s + ROUNDING) + 1])
    return Clusters(np.maximum.reduceat(levels[above], starts), run_s, index)
