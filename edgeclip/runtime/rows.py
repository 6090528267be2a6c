"""An engine fed with any number of rows, whatever batch it was compiled for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeclip.types import Embeddings, Engine


class Rows:
    """run() as an engine's own. A batch of what it was compiled for goes straight through; more rows go in turns."""

    def __init__(self, engine: Engine) -> None:
        self._run = engine.run
        self._size = max(engine.input_shape[0], 1)
        self._out: Embeddings = np.empty((0, 0), np.float32)

    def run(self, batch: npt.NDArray[np.uint8]) -> Embeddings:
        """[R, H, W, 3] -> [R, D], valid until the next run()."""
        count, size = len(batch), self._size
        if count == size:
            return self._run(batch)
        for start in range(0, count, size):
            part = batch[start : start + size]
            filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            rows = self._run(filled)[: len(part)]
            if self._out.shape != (count, rows.shape[1]):
                self._out = np.empty((count, rows.shape[1]), np.float32)
            self._out[start : start + len(part)] = rows
        return self._out
