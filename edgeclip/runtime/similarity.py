"""Similarities of images and texts, and what the manifest says they score. Pure functions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeclip.bundle import Scoring
from edgeclip.types import Embeddings

Scores = npt.NDArray[np.float32]  # [N, L]


def similarity(image: Embeddings, text: Embeddings, out: Scores | None = None) -> Scores:
    """Cosines in -1..1 of images [N, D] with texts [L, D], all unit vectors: [N, L] float32, in `out` if given."""
    return np.matmul(image, text.T, out=out)


def score(similarities: Scores, scoring: Scoring, out: Scores | None = None) -> Scores:
    """Scores in 0..1, [N, L] float32, in `out` if given (which may be `similarities` itself).

    softmax: rows sum to 1, the labels exclude each other. sigmoid: each label stands alone.
    """
    scaled: Scores = np.multiply(similarities, np.float32(scoring.scale), out=out)
    if scoring.kind == "softmax":
        scaled -= scaled.max(axis=-1, keepdims=True)  # exp() of at most 0 cannot overflow
        np.exp(scaled, out=scaled)
        scaled /= scaled.sum(axis=-1, keepdims=True)
        return scaled
    scaled += np.float32(scoring.bias)
    np.negative(scaled, out=scaled)
    np.logaddexp(0, scaled, out=scaled)  # sigmoid(x) = exp(-log(1 + exp(-x))): no overflow, and small scores stay exact
    np.negative(scaled, out=scaled)
    return np.exp(scaled, out=scaled)
