"""How much a frame speaks for a label by its taught shots alone, as log-odds against anything else.

What counts is the cosine of the frame with the mean direction of the label's shots, both seen from the centre of all
pictures. Constants: 295 names of 2,226 photographs that nano was not trained on, 5 of them taught at a time, and
CIFAR-10: with 1, 2, 4, 8, 16 shots right pictures reached 0.65, 0.72, 0.76, 0.78, 0.80 (0.17 about it), all others 0.27
(0.23), and logistic regression gave a slope of 10 at most. Pictures of one camera lie nearer to each other: where other
labels were taught, it is what their shots reach that counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeclip.types import Embeddings

Floats = npt.NDArray[np.float32]

OWN, FEWER = 0.82, 0.17  # a right picture reaches OWN - FEWER / shots on average
OWN_SPREAD = 0.17
OTHER, OTHER_SPREAD = 0.27, 0.23  # a wrong one
PRIOR_SHOTS = 4  # that OWN counts for against what left-out shots of the label reach
STEEPEST, FLATTEST = 10.0, 1.0  # log-odds per cosine
ENOUGH_OTHERS = 8  # shots of other labels, whose spread is then taken


@dataclass(frozen=True, eq=False)
class Shown:
    """K taught labels. rows: [K], their places among the names in force. directions: [K, D] unit vectors, from
    centres [K, D]. even: [K] cosines of log-odds 0; steep: [K]. text: [K], how well the text knows the shots, 0..1."""

    rows: npt.NDArray[np.int64]
    centres: Floats
    directions: Floats
    even: Floats
    steep: Floats
    text: Floats

    def log_odds(self, images: Embeddings) -> Floats:
        """Of images [K, D], one for each label, or [1, D] for all: [K]."""
        seen = _unit(images - self.centres)
        return np.asarray(self.steep * (np.einsum("kd,kd->k", seen, self.directions) - self.even))

    def blend(self, odds: Floats, images: Embeddings) -> None:
        """Into the text's log-odds [W] of images [W, D], in place: the less the text knows, the more the shots say."""
        own = self.log_odds(images[self.rows])
        odds[self.rows] = self.text * odds[self.rows] + (np.float32(1.0) - self.text) * own

    def known(self, image: Embeddings) -> float:
        """Log-odds that an image [1, D] shows one of the labels; the best of many is by chance the higher."""
        return float(self.log_odds(image).max()) - float(np.log(len(self.rows)))


def shown_by(
    shots: Embeddings, own: npt.NDArray[np.int64], rows: Sequence[int], background: Embeddings, text: Floats
) -> Shown:
    """shots [N, D] of labels own [N] in 0..K, at `rows` [K] of what is in force, -1 for one that is not asked for:
    it is only told from. background [B, D]: pictures of whatever. text: [K] as in Shown."""
    asked = [label for label, row in enumerate(rows) if row >= 0]
    centres, directions, even, steep = [], [], [], []
    for label in asked:
        mine, others = shots[own == label], shots[own != label]
        centre = np.concatenate([background, mine.mean(axis=0, keepdims=True)]).mean(axis=0)
        keys = _unit(mine - centre)
        direction = _unit(keys.sum(axis=0))
        own_cosine = reached(keys)
        other, spread = OTHER, OTHER_SPREAD
        if len(others):
            cosines = _unit(others - centre) @ direction
            other = max(other, float(cosines.mean()))
            spread = float(np.clip(cosines.std(), 0.1, OTHER_SPREAD)) if len(others) >= ENOUGH_OTHERS else spread
        centres.append(centre)
        directions.append(direction)
        even.append((other * OWN_SPREAD + own_cosine * spread) / (OWN_SPREAD + spread))
        steep.append(np.clip((own_cosine - other) / (OWN_SPREAD * spread), FLATTEST, STEEPEST))
    return Shown(
        np.array([rows[label] for label in asked], np.int64),
        np.stack(centres),
        np.stack(directions),
        np.array(even, np.float32),
        np.array(steep, np.float32),
        text[asked],
    )


def reached(keys: Floats) -> float:
    """What a right picture is expected to reach: as usual, and as the label's left-out shots do. keys: [N, D]."""
    count = len(keys)
    usual = OWN - FEWER / count
    if count == 1:
        return usual
    left_out = float((keys * _unit(keys.sum(axis=0) - keys)).sum(axis=1).mean())
    return (PRIOR_SHOTS * usual + count * left_out) / (PRIOR_SHOTS + count)


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9), np.float32)
