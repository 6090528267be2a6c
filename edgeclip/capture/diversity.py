"""Keep the few of very many frames that are farthest from each other, in one pass and bounded memory.

Distances are chords between unit embeddings, sqrt(2 - 2 cos): a metric, and unlike the cosine the same before and
after the mean embedding is subtracted, so that CLIP's narrow cone does no harm.

Offline, farthest-point traversal (Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985) keeps
within a factor two of the best k points for covering the rest; as a way to choose training pictures in an embedding
space it is the core-set method of Sener and Savarese (2018). It needs all frames at once. A camera gives them one by
one, for hours, so the pool does what streaming k-centre does (Charikar, Chekuri, Feder, Motwani, "Incremental
clustering and dynamic information retrieval", 1997): keep points at least so far apart, and raise that distance when
a point farther than it comes to a full pool. Where theirs doubles the distance and clears the pool, this takes one
of the two nearest neighbours out, so the pool stays full and the distance between its closest pair never shrinks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeclip.types import Embeddings

Floats = npt.NDArray[np.float32]

GAIN = 1.05  # a swap must beat the closest pair by this much: a disk is not worn for less


@dataclass(frozen=True, slots=True)
class Offer:
    """What the pool says to a frame. distance: to the nearest kept, inf for the first. slot: its place, None for no."""

    distance: float
    slot: int | None


class Pool:
    """At most `capacity` unit vectors of `dim` numbers, no two of them nearer than `floor` when they came."""

    def __init__(self, capacity: int, dim: int, floor: float = 0.0) -> None:
        self.capacity = capacity
        self.floor = floor
        self.count = 0
        self._rows = np.zeros((capacity, dim), np.float32)
        self._apart = np.full((capacity, capacity), np.inf, np.float32)
        self._closest = (0, 0)
        self._candidate: Floats = np.empty(capacity, np.float32)  # distances of what was offered last

    @property
    def embeddings(self) -> Embeddings:
        """[count, dim], by slot."""
        return self._rows[: self.count]

    @property
    def closest(self) -> float:
        """Distance between the closest pair; inf while there is none."""
        return float(self._apart[self._closest])

    def nearest(self) -> Floats:
        """[count]: from each vector to its nearest neighbour."""
        return np.asarray(self._apart[: self.count, : self.count].min(axis=1, initial=np.inf), np.float32)

    def offer(self, row: Floats) -> Offer:
        """Whether `row` [dim] is wanted, and in which slot: a free one, or that of one of the closest pair."""
        self._candidate = distances(self.embeddings, row)
        if not self.count:
            return Offer(float("inf"), 0)
        distance = float(self._candidate.min())
        if distance <= self.floor:
            return Offer(distance, None)
        if self.count < self.capacity:
            return Offer(distance, self.count)
        if distance <= GAIN * self.closest:
            return Offer(distance, None)
        return Offer(distance, self._more_crowded())

    def put(self, slot: int, row: Floats) -> None:
        """Take `row` into the slot that offer(row) named."""
        apart = distances(self.embeddings, row)
        self._rows[slot] = row
        self._apart[slot, : self.count] = apart
        self._apart[: self.count, slot] = apart
        self._apart[slot, slot] = np.inf
        self.count = max(self.count, slot + 1)
        self._closest = divmod(int(self._apart.argmin()), self.capacity)

    def _more_crowded(self) -> int:
        """Of the closest pair, the one whose next neighbour, the candidate included, is nearer."""
        first, second = self._closest
        others = self._apart[[first, second]].copy()
        others[0, second] = others[1, first] = np.inf
        next_nearest = np.minimum(others.min(axis=1), self._candidate[[first, second]])
        return first if next_nearest[0] <= next_nearest[1] else second


def distances(rows: Embeddings, row: Floats) -> Floats:
    """[N] chords from each of `rows` [N, D] to `row` [D], all unit vectors."""
    chords: Floats = np.sqrt(np.maximum(2.0 - 2.0 * (rows @ row), 0.0))
    return chords


def farthest_first(rows: Embeddings, count: int | None = None) -> list[int]:
    """Gonzalez' traversal: the most usual row first, then always the one farthest from all before it."""
    if not len(rows):
        return []
    order = [int((rows @ rows.mean(axis=0)).argmax())]
    nearest = distances(rows, rows[order[0]])
    nearest[order[0]] = -1.0
    while len(order) < min(count or len(rows), len(rows)):
        order.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, distances(rows, rows[order[-1]]))
        nearest[order[-1]] = -1.0
    return order
