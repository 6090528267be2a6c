"""The tail of what a background reaches: peaks over a threshold, and how sure a rate beyond them is. Pure functions.

Excesses of independent peaks over a high threshold follow a generalised Pareto distribution (Pickands, Annals of
Statistics 3, 1975); how many there are is Poisson. Intervals are by profile likelihood (Coles, An Introduction to
Statistical Modeling of Extreme Values, 2001, section 4.3.3), over rate, shape and scale together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

DEVIANCE = 3.841  # chi-squared, 1 degree of freedom, 95 %: each end is passed with a probability of 2.5 %
CONFIDENCE = 0.95
SHAPES = np.linspace(-0.6, 0.6, 61)  # profiled over; a heavier tail of a log-odds score was not seen
RATES = np.linspace(-3.0, 3.0, 13)  # standard deviations of the logarithm of a Poisson rate
REPLICAS = 199
BISECTIONS = 48


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
        return self._search(per_s, bound=False)

    def level_bound(self, per_s: float) -> float:
        """The level at and above which per_s is outside the interval, on the safe side."""
        return self._search(per_s, bound=True)

    def rate(self, level: float) -> tuple[float, float, float]:
        """How often `level` is passed, a second: most likely, and the interval's two ends."""
        rates = self.per_s * np.exp(np.linspace(np.log(1e-7), np.log(0.995), 180))
        likelihoods = np.array([self._profile(level, rate) for rate in rates])
        best = int(likelihoods.argmax())
        inside = np.flatnonzero(2.0 * (likelihoods[best] - likelihoods) <= DEVIANCE)
        return float(rates[best]), float(rates[inside[0]]), float(rates[inside[-1]])

    def _search(self, per_s: float, bound: bool) -> float:
        """Bisection for the level where per_s is most likely, or leaves the interval."""
        shape, scale = fit(self.excesses)
        reach = quantile(per_s / self.per_s, shape, scale)
        levels = np.linspace(1e-3, 4.0 * reach + scale, 160)
        likelihoods = np.array([self._profile(self.threshold + excess, per_s) for excess in levels])
        best = int(likelihoods.argmax())
        if not bound:
            return self.threshold + float(levels[best])
        limit = likelihoods[best] - DEVIANCE / 2.0
        low, high = float(levels[best]), float(levels[-1])
        while self._profile(self.threshold + high, per_s) > limit and high < 1e3:
            high *= 2.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2.0
            inside = self._profile(self.threshold + middle, per_s) > limit
            low, high = (middle, high) if inside else (low, middle)
        return self.threshold + high

    def _profile(self, level: float, per_s: float) -> float:
        """Log-likelihood of `level` being passed per_s times a second, at the best shape and rate of peaks."""
        count, excess = len(self.excesses), level - self.threshold
        rates = self.per_s * np.exp(RATES / np.sqrt(count))[None, :]  # [1, Z]
        shapes = SHAPES[:, None]  # [X, 1]
        with np.errstate(all="ignore"):
            ratio = np.log(rates / per_s)
            straight = np.abs(shapes) < 1e-6
            scales = np.where(straight, excess / ratio, shapes * excess / np.expm1(shapes * ratio))  # [X, Z]
            logs = np.log1p((shapes / scales)[..., None] * self.excesses).sum(axis=-1)
            spread = np.where(straight, self.excesses.sum() / scales, (1.0 / shapes + 1.0) * logs)
            value = count * np.log(rates) - rates * self.seconds - count * np.log(scales) - spread
        value[~np.isfinite(value) | (ratio <= 0.0)] = -np.inf
        return float(value.max())


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
