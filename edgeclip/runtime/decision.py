"""From the scores of frames to what is shown: smoothing over time, and the best few. Time is passed in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]  # [L]


HalfLife = float | npt.NDArray[np.float64]  # seconds, for all or [L]


def smooth(previous: Scores, current: Scores, elapsed_s: float, half_life_s: HalfLife) -> Scores:
    """Exponential smoothing: what was seen `half_life_s` ago counts half. A half-life of 0 is `current` itself."""
    if isinstance(half_life_s, np.ndarray):
        steps = np.divide(elapsed_s, half_life_s, out=np.full(len(half_life_s), np.inf), where=half_life_s > 0.0)
        weights: Scores = (0.5**steps).astype(np.float32)
        return current + weights * (previous - current)
    if half_life_s <= 0.0:
        return current
    weight = np.float32(0.5 ** (elapsed_s / half_life_s))
    return current + weight * (previous - current)


def rank(scores: Scores, top_k: int) -> tuple[int, ...]:
    """Indices of the `top_k` highest scores, best first; of equal ones the first label comes first."""
    count = min(top_k, len(scores))
    if count < 1:
        return ()
    threshold = np.partition(scores, -count)[-count]
    candidates = np.flatnonzero(scores >= threshold)
    best = candidates[np.argsort(-scores[candidates], kind="stable")[:count]]
    return tuple(best.tolist())


class Smoother:
    """smooth() over the frames of one source. Call reset() when the labels or the source change."""

    def __init__(self, half_life_s: HalfLife) -> None:
        self.half_life_s = half_life_s
        self._scores: Scores | None = None
        self._captured_ns = 0

    def reset(self) -> None:
        self._scores = None

    def update(self, scores: Scores, captured_ns: int) -> Scores:
        """Scores [L] of a frame -> smoothed scores [L], an array that is never written to again.

        A clock that goes backwards, or another number of labels, starts afresh.
        """
        elapsed_s = (captured_ns - self._captured_ns) / 1e9
        if self._scores is None or elapsed_s < 0.0 or self._scores.shape != scores.shape:
            smoothed = scores.copy()
        else:
            smoothed = smooth(self._scores, scores, elapsed_s, self.half_life_s)
            if smoothed is scores:
                smoothed = scores.copy()
        self._scores = smoothed
        self._captured_ns = captured_ns
        return smoothed
