from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edgeclip.runtime.rows import Rows
from edgeclip.types import Embeddings


class Means:
    """An engine for batches of one size: the mean of each picture, in its own buffer."""

    input_dtype = np.dtype(np.uint8)
    runtime = "means"

    def __init__(self, size: int) -> None:
        self.input_shape = (size, 2, 2, 3)
        self.calls = 0
        self._out = np.zeros((size, 1), np.float32)

    def run(self, batch: npt.NDArray[np.uint8]) -> Embeddings:
        self.calls += 1
        assert len(batch) == len(self._out)  # as real engines check it
        self._out[:, 0] = batch.mean(axis=(1, 2, 3))
        return self._out

    def close(self) -> None:
        return


def pictures(count: int) -> npt.NDArray[np.uint8]:
    return np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(12, axis=1).reshape(count, 2, 2, 3)


@pytest.mark.parametrize(("size", "count", "calls"), [(1, 1, 1), (1, 3, 3), (4, 4, 1), (4, 1, 1), (4, 3, 1), (4, 6, 2)])
def test_any_number_of_rows_in_as_few_calls_as_the_engine_allows(size: int, count: int, calls: int) -> None:
    engine = Means(size)
    rows = Rows(engine)
    for _ in range(2):
        assert rows.run(pictures(count))[:, 0].tolist() == list(range(count))
    assert engine.calls == 2 * calls
