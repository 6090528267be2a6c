"""The arithmetic of verify: how far INT8 is from float. Arrays in, figures out."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
RIVALS = 5  # texts that may become the best one


class Spread(msgspec.Struct, frozen=True):
    """Of a cosine over frames: mean, 1st percentile, lowest."""

    mean: float
    p1: float
    min: float


class Distance(msgspec.Struct, frozen=True):
    """Cosine to the float embedding, plain and after the mean float embedding is subtracted from both.

    The plain cosine hides a collapsed tower; the centred one shows it.
    """

    cosine: Spread
    centred: Spread


def distance(reference: Rows, other: Rows) -> Distance:
    """Of two sets of embeddings [N, D] of the same inputs."""
    mean = reference.mean(0, dtype=np.float64)
    return Distance(spread(cosines(reference, other)), spread(cosines(reference - mean, other - mean)))


def cosines(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """[N], row by row; 0 where a row has no length, -1 where one is not finite: a broken engine is the farthest."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(a64).all(1) & np.isfinite(b64).all(1)
    a64, b64 = np.nan_to_num(a64), np.nan_to_num(b64)
    length = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    values = (a64 * b64).sum(1) / np.maximum(length, 1e-12)
    return np.where(finite, values, -1.0)


def spread(values: npt.NDArray[np.float64]) -> Spread:
    return Spread(float(values.mean()), float(np.percentile(values, 1)), float(values.min()))


def best(images: Rows, texts: Rows) -> npt.NDArray[np.intp]:
    """[N, L] label indices, best first."""
    return np.argsort(-(np.nan_to_num(images) @ texts.T), axis=1, kind="stable")


def expected_agreement(reference: Rows, other: Rows, texts: Rows) -> float:
    """Percent of rows [N, D] whose best text of `texts` [L, D] is the same by `other`, as is to be expected.

    From how far the best text is ahead by `reference`, and how much differences of scores move, taken as normal: what
    counting says over hundreds of rows, this says over tens.
    """
    true, seen = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (reference, other))
    if not np.isfinite(seen).all():
        return 0.0
    first = best(true, texts)[:, : 1 + RIVALS]
    ahead, moved = (
        taken[:, :1] - taken[:, 1:]
        for taken in (np.take_along_axis(rows @ texts.T, first, 1) for rows in (true, seen - true))
    )
    deviation = max(float(np.sqrt(np.square(moved, dtype=np.float64).mean())), 1e-9)
    lost = [sum(0.5 * math.erfc(float(gap) / (math.sqrt(2.0) * deviation)) for gap in row) for row in ahead]
    return 100.0 * (1.0 - float(np.mean(np.minimum(lost, 1.0))))


def accuracy(order: npt.NDArray[np.intp], truth: npt.NDArray[np.intp], k: int) -> float:
    """Percent of rows whose true label is among the first k."""
    return 100.0 * float((order[:, :k] == truth[:, None]).any(1).mean())


def accuracy_drop(
    reference: npt.NDArray[np.intp], order: npt.NDArray[np.intp], truth: npt.NDArray[np.intp]
) -> tuple[float, float]:
    """(drop, its standard error), in points: how far top-1 of `order` [N, L] is below that of `reference` [N, L].

    Both are of the same pictures, so that only those count of which one is right and the other wrong (McNemar, 1947):
    of 2,227 pictures of which 70 turn over, 35 either way, the drop is 0 +- 0.38.
    """
    lost = (reference[:, 0] == truth).astype(np.float64) - (order[:, 0] == truth)
    return 100.0 * float(lost.mean()), 100.0 * float(lost.std()) / math.sqrt(len(lost))
