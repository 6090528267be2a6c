"""What taught shots add to similarities, on every frame. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeclip.types import Embeddings

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Refinement:
    """For K of the labels in force. With z the direction of a picture from `centre` [D], their similarities gain
    z @ matrix [D, K], or, with values [N, K], exp(beta (z @ matrix [D, N] - 1)) @ values. All similarities count
    `share` before.

    columns: [K], the labels' places in the bank.
    """

    columns: npt.NDArray[np.int64]
    centre: Floats
    matrix: Floats
    share: float = 1.0
    values: Floats | None = None
    beta: float = 0.0

    def add(self, image: Embeddings, similarities: Floats) -> None:
        """Adds to similarities [N, L] of images [N, D], in place."""
        directions = image - self.centre
        directions /= np.sqrt(np.einsum("nd,nd->n", directions, directions))[:, np.newaxis] + np.float32(1e-9)
        gain = directions @ self.matrix
        if self.values is not None:
            gain -= np.float32(1.0)
            gain *= np.float32(self.beta)
            np.exp(gain, out=gain)
            gain = gain @ self.values
        if self.share != 1.0:
            similarities *= np.float32(self.share)
        similarities[:, self.columns] += gain
