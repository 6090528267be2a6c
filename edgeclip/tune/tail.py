"""The tail of what a background reaches: peaks over a threshold, and how sure a rate beyond them is. Pure functions.

Excesses of independent peaks over a high threshold follow a generalised Pareto distribution (Pickands, Annals of
Statistics 3, 1975); how many there are is Poisson. Intervals are by profile likelihood (Coles, An Introduction to
Statistical Modeling of Extreme Values, 2001, section 4.3.3), over rate, shape and scale together.

Few peaks say little about the shape, and a rate far beyond them hangs on it: the likelihood is penalised (Coles &
Dixon, Extremes 2, 1999) towards the slightly bounded tail that maxima of normal scores have at such sizes (Fisher &
Tippett 1928).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

DEVIANCE = 2.706  # chi-squared, 1 degree of freedom, 90 %: each end is passed with a probability of 5 %
CONFIDENCE = 0.9
SHAPES = np.arange(-0.59, 0.5, 0.04)  # profiled over; never 0, where the formulas have a gap
SHAPE, SPREAD = -0.1, 0.1  # mean and deviation of shapes over watches: benchmarks/false_alarms.md, 150 peaks each
SCALES = np.geomspace(0.4, 2.5, 60)  # times what probability-weighted moments find
RATES = np.linspace(-3.0, 3.0, 9)  # standard deviations of the logarithm of a Poisson rate
NEVER = 1e-9  # share of peaks that is not told from 0
REPLICAS = 199
BISECTIONS = 24


@dataclass(frozen=True, slots=True)
class Tail:
    """Peaks [C] above `threshold`, independent, seen in `seconds` of footage."""

    threshold: float
    excesses: Values  # [C], above 0
    seconds: float

    @property
    def per_s(self) -> float:
        """Peaks above the threshold."""
        return len(self.excesses) / self.seconds

    def level(self, per_s: float) -> float:
        """The level that is passed per_s times a second, most likely. per_s: below that of the threshold."""
        shape, scale, _ = self._best()
        return self.threshold + quantile(per_s / self.per_s, shape, scale)

    def rate(self, level: float) -> tuple[float, float]:
        """How often `level` is passed, a second: most likely, and the lower end of the interval."""
        shape, scale, best = self._best()
        inside = max(1.0 + shape * (level - self.threshold) / scale, 0.0)
        likely = self.per_s * (inside ** (-1.0 / shape) if inside > 0.0 else 0.0)
        low, high = math.log(NEVER * self.per_s), math.log(max(likely, NEVER * self.per_s))
        for _ in range(BISECTIONS):
            middle = (low + high) / 2.0
            outside = self._profile(level, math.exp(middle)) < best - DEVIANCE / 2.0
            low, high = (middle, high) if outside else (low, middle)
        return likely, min(math.exp(high), likely)

    def level_bound(self, per_s: float) -> float:
        """The level from which on per_s lies above the interval: at it, the upper end is per_s."""
        limit = self._best()[2] - DEVIANCE / 2.0
        low = self.level(per_s)
        high = low + max(low - self.threshold, 1e-3)
        while self._profile(high, per_s) > limit and high < low + 1e4:
            high += high - self.threshold
        for _ in range(BISECTIONS):
            middle = (low + high) / 2.0
            inside = self._profile(middle, per_s) > limit
            low, high = (middle, high) if inside else (low, middle)
        return high

    def _best(self) -> tuple[float, float, float]:
        """Shape and scale of the greatest log-likelihood, and it."""
        scales = fit(self.excesses)[1] * SCALES[None, :]
        values = self._log_likelihood(SHAPES[:, None], scales, np.array(self.per_s))
        row, column = divmod(int(values.argmax()), values.shape[1])
        return float(SHAPES[row]), float(scales[0, column]), float(values[row, column])

    def _profile(self, level: float, per_s: float) -> float:
        """Log-likelihood of `level` being passed per_s times a second, at the best shape and rate of peaks."""
        rates = self.per_s * np.exp(RATES / np.sqrt(len(self.excesses)))[None, :]
        shapes = SHAPES[:, None]
        with np.errstate(all="ignore"):
            ratios = np.log(rates / per_s)
            scales = shapes * (level - self.threshold) / np.expm1(shapes * ratios)
        return float(np.where(ratios > 0.0, self._log_likelihood(shapes, scales, rates), -np.inf).max())

    def _log_likelihood(self, shapes: Values, scales: Values, rates: Values) -> Values:
        """[X, Z] of shapes [X, 1], and scales and rates of peaks that broadcast with them; penalised."""
        count = len(self.excesses)
        with np.errstate(all="ignore"):
            logs = np.log1p((shapes / scales)[..., None] * self.excesses).sum(axis=-1)
            peaks = count * np.log(rates) - rates * self.seconds
            value: Values = peaks - count * np.log(scales) - (1.0 / shapes + 1.0) * logs
        value = value - 0.5 * ((shapes - SHAPE) / SPREAD) ** 2
        value[~np.isfinite(value)] = -np.inf
        return value


def fit(excesses: Values) -> tuple[float, float]:
    """Shape and scale by probability-weighted moments. Hosking & Wallis, Technometrics 29 (1987), 339-349."""
    shape, scale = _fit_rows(np.sort(excesses)[None, :])
    return float(shape[0]), float(scale[0])


def quantile(share: float | Values, shape: float, scale: float) -> float:
    """The excess that a share of them passes."""
    lost = -np.log(share)
    return float(scale * lost if abs(shape) < 1e-6 else scale * np.expm1(shape * lost) / shape)


def goodness(excesses: Values, seed: int = 0) -> float:
    """p-value of the fitted distribution: how often samples of it fit worse than these, by Anderson and Darling's
    statistic (Choulakian & Stephens, Technometrics 43, 2001, with simulated levels)."""
    count = len(excesses)
    shape, scale = fit(excesses)
    uniform = np.random.default_rng(seed).random((REPLICAS, count))
    lost = -np.log(uniform)
    samples = scale * lost if abs(shape) < 1e-6 else scale * np.expm1(shape * lost) / shape
    measured = _distance(np.sort(excesses)[None, :])[0]
    return float((1 + (_distance(np.sort(samples, axis=1)) >= measured).sum()) / (REPLICAS + 1))


def _fit_rows(rows: Values) -> tuple[Values, Values]:
    """Of excesses [R, C], each row sorted: shapes [R] and scales [R]."""
    count = rows.shape[1]
    weights = 1.0 - (np.arange(1, count + 1) - 0.35) / count
    mean, weighted = rows.mean(axis=1), (rows * weights).mean(axis=1)
    apart = np.maximum(mean - 2.0 * weighted, 1e-12)
    shapes = np.clip(2.0 - mean / apart, SHAPES[0], SHAPES[-1])
    return shapes, np.maximum(mean * (1.0 - shapes), 1e-12)


def _distance(rows: Values) -> Values:
    """Anderson-Darling's statistic of rows [R, C], each sorted, to the distribution fitted to it."""
    shapes, scales = _fit_rows(rows)
    shapes, scales = shapes[:, None], scales[:, None]
    near = np.abs(shapes) < 1e-6
    safe = np.where(near, 1.0, shapes)
    lost = np.where(near, rows / scales, np.log(np.maximum(1.0 + safe * rows / scales, 1e-12)) / safe)
    beyond = np.clip(np.exp(-lost), 1e-12, 1.0 - 1e-12)  # share above
    below = 1.0 - beyond
    count = rows.shape[1]
    order = 2.0 * np.arange(1, count + 1) - 1.0
    result: Values = -count - (order * (np.log(below) + np.log(beyond[:, ::-1]))).mean(axis=1)
    return result
