"""Rounding weights so that a layer's outputs change least, not every weight by itself: GPTQ (Frantar et al., 2023)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeclip.build.observers import LEVELS, SMALLEST, Values

BLOCK = 128  # inputs that are rounded before what they missed is carried over to all the others
DAMPING = 0.01  # of the mean square of an input: what rows that are not in the sample may still do


def column_scales(weight: Values) -> Values:
    """[K, M] -> [M]: int8 covers the greatest magnitude of every column."""
    return np.asarray(np.maximum(np.abs(weight).max(0), SMALLEST) / LEVELS, np.float32)


def second_order(weight: Values, scales: Values, inputs: Values, shares: Values) -> npt.NDArray[np.int8]:
    """[K, M] int8 for which inputs @ (integers * scales) is near to inputs @ weight, in squares.

    weight: [K, M]. inputs: [R, K], rounded as the engine will see them. shares: [R], what a row's square counts for.
    Inputs are taken in the order of their power; what rounding one of them missed, those still to come make good.
    """
    gram = ((inputs * shares[:, None]).T @ inputs).astype(np.float64)
    power = np.diagonal(gram).copy()
    order = np.argsort(-power, kind="stable")
    gram = gram[np.ix_(order, order)]
    gram[np.diag_indices_from(gram)] += DAMPING * power.mean() + SMALLEST
    # Rows of this factor say how far an input's miss is to be spread over the inputs behind it.
    spread = np.linalg.cholesky(np.linalg.inv(gram)).T.astype(np.float32)
    left = weight[order] / scales
    integers = np.empty(weight.shape, np.int8)
    for begin in range(0, len(left), BLOCK):
        end = min(begin + BLOCK, len(left))
        missed = np.empty((end - begin, weight.shape[1]), np.float32)
        for row in range(begin, end):
            whole = np.clip(np.rint(left[row]), -LEVELS, LEVELS)
            integers[row] = whole
            missed[row - begin] = (left[row] - whole) / spread[row, row]
            left[row + 1 : end] -= spread[row, row + 1 : end, None] * missed[row - begin]
        left[end:] -= spread[begin:end, end:].T @ missed
    return integers[np.argsort(order)]
