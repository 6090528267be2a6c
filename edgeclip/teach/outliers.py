"""Shots that do not show what the others of their label show: found, named, and left out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeclip.types import Embeddings

FEWEST = 4  # shots of a label before one of them can be told from the rest
SPREADS = 3.5  # below the median, in robust standard deviations: Iglewicz and Hoaglin, 1993
LEAST_SPREAD = 0.05
UNRELATED = 0.2  # cosine, from the centre: two pictures of different things
NEARER = 0.4  # to another label than to its own: 0.54 for a planted dog among guitars, 0.34 for a real guitar
MOST = 0.25  # of a label's shots


def outliers(embeddings: Embeddings, labels: list[str], background: Embeddings) -> dict[int, str]:
    """Rows of embeddings [N, D] that are better left out, and why. background [B, D]: pictures of whatever.

    A shot is one where its cosine to the mean of its label's other shots, both seen from the centre of all pictures,
    is that of unrelated ones and far below what is usual for the label, or where another label's shots are much nearer.
    An unusual picture of the right thing is what teaches most, and stays. At most a quarter of a
    label's shots, the worst, and none of a label with less than four.
    """
    names = list(dict.fromkeys(labels))
    if not names:
        return {}
    own = np.array([names.index(label) for label in labels])
    means = np.stack([embeddings[own == index].mean(axis=0) for index in range(len(names))])
    directions = _unit(embeddings - np.concatenate([background, means]).mean(axis=0))
    sums = np.stack([directions[own == index].sum(axis=0) for index in range(len(names))])
    found: dict[int, str] = {}
    for index in range(len(names)):
        rows = np.flatnonzero(own == index)
        if len(rows) >= FEWEST:
            found |= _of_label(rows, index, directions, sums, names)
    return found


def _of_label(
    rows: npt.NDArray[np.int64],
    index: int,
    directions: npt.NDArray[np.float32],
    sums: npt.NDArray[np.float32],
    names: list[str],
) -> dict[int, str]:
    some = directions[rows]
    rest = (some * _unit(sums[index] - some)).sum(axis=1)
    usual = float(np.median(rest))
    spread = max(1.4826 * float(np.median(np.abs(rest - usual))), LEAST_SPREAD)
    elsewhere = some @ _unit(sums).T
    elsewhere[:, index] = -1.0
    nearest = elsewhere.argmax(axis=1)
    beyond = elsewhere.max(axis=1) - rest
    suspect = np.flatnonzero((rest < min(usual - SPREADS * spread, UNRELATED)) | (beyond > NEARER))
    worst = suspect[np.argsort(rest[suspect] - np.maximum(beyond[suspect], 0.0))][: int(MOST * len(rows))]
    reasons = {}
    for place in worst.tolist():
        reason = f"cosine {rest[place]:.2f} to the rest, whose median is {usual:.2f}"
        if len(names) > 1:
            reason += f"; {elsewhere[place].max():.2f} to {names[nearest[place]]!r}"
        reasons[int(rows[place])] = reason
    return reasons


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9), np.float32)
