"""A histogram for the frame loop: one thread writes, a scrape reads; no lock, one bisection a value."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

# seconds
BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Histogram:
    """bounds: upper edges of the buckets; what is above the last goes into one more. sum_s: of all values."""

    def __init__(self, bounds: Sequence[float] = BOUNDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum_s += seconds


def cumulative(histograms: Sequence[Histogram]) -> tuple[list[tuple[str, float]], float]:
    """Prometheus buckets (upper edge, how many are at most that), and the sum, of all of them together."""
    buckets: list[tuple[str, float]] = []
    total = 0
    edges = [*map(str, histograms[0].bounds), "+Inf"]
    for edge, counts in zip(edges, zip(*(histogram.counts for histogram in histograms), strict=True), strict=True):
        total += sum(counts)
        buckets.append((edge, total))
    return buckets, sum(histogram.sum_s for histogram in histograms)
