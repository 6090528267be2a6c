"""Observers: from the values that a tensor took, the threshold t that int8 covers, -t..t. Arrays in, floats out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float32]
LEVELS = 127
BINS = 2048
SHARES = {"percentile-99.9": 99.9, "percentile-99.99": 99.99, "percentile-99.999": 99.999}
FRACTIONS = np.geomspace(0.01, 1.0, 48)
SMALLEST = 1e-12
TRIED_VALUES = 50_000  # that a threshold is tried out on
RANKED_VALUES = 1_000_000  # that a percentile is taken of


def threshold(observer: str, values: Values, greatest: float) -> float:
    """values: a sample of the tensor, any shape. greatest: the greatest magnitude it ever took."""
    greatest = max(greatest, SMALLEST)
    if observer == "min-max":
        return greatest
    flat = values.reshape(-1)
    magnitudes = np.abs(flat[:: max(1, len(flat) // RANKED_VALUES)])
    if observer in SHARES:
        return max(float(np.percentile(magnitudes, SHARES[observer])), SMALLEST)
    if observer == "mse":
        return least_squares(magnitudes, greatest)
    if observer == "entropy":
        return least_divergence(magnitudes, greatest)
    raise ValueError(f"no observer is called {observer}")


def least_squares(magnitudes: Values, greatest: float) -> float:
    """The threshold at which rounding and clipping together cost the least squared error."""
    values = magnitudes[:: max(1, len(magnitudes) // TRIED_VALUES)]
    return float(min(greatest * FRACTIONS, key=lambda t: squared_error(values, float(t))))


def squared_error(values: Values, limit: float) -> float:
    error = values - fake_quantize(values, limit)
    return float(np.square(error, dtype=np.float64).mean())


def least_divergence(magnitudes: Values, greatest: float) -> float:
    """The threshold at which 128 levels lose the least of the histogram's information (Migacz, 2017)."""
    counts, edges = np.histogram(magnitudes, BINS, (0.0, greatest))
    best, lowest = greatest, np.inf
    for bins in range(LEVELS + 1, BINS + 1, 16):
        kept = counts[:bins].astype(np.float64)
        clipped = kept.copy()
        clipped[-1] += counts[bins:].sum()
        groups = np.minimum(np.arange(bins) * (LEVELS + 1) // bins, LEVELS)
        held = kept > 0
        total = np.bincount(groups, kept, LEVELS + 1)
        members = np.bincount(groups, held, LEVELS + 1)
        spread = np.where(held, (total / np.maximum(members, 1))[groups], 0.0)
        divergence = relative_entropy(clipped, spread)
        if divergence < lowest:
            best, lowest = float(edges[bins]), divergence
    return best


def relative_entropy(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> float:
    if not p.sum() or not q.sum():
        return float(np.inf)
    p, q = p / p.sum(), q / q.sum()
    both = p > 0
    return float((p[both] * np.log(p[both] / np.maximum(q[both], 1e-10))).sum())


def fake_quantize(values: Values, limit: float) -> Values:
    """Through symmetric int8 and back."""
    scale = np.float32(max(limit, SMALLEST) / LEVELS)
    return np.asarray(np.clip(np.rint(values / scale), -LEVELS - 1, LEVELS) * scale, np.float32)


def fake_quantize_columns(weight: Values) -> Values:
    """[K, M] through symmetric int8 with one scale per column, and back."""
    scale = np.maximum(np.abs(weight).max(0), SMALLEST) / np.float32(LEVELS)
    return np.asarray(np.clip(np.rint(weight / scale), -LEVELS, LEVELS) * scale, np.float32)
