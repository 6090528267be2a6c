"""What every engine does on every run: take only what it was compiled for, and hand on only finite numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeclip.errors import DataError, EngineError


def check_input(batch: npt.NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raises DataError where the batch is not of this shape and type."""
    if batch.shape != shape or batch.dtype != dtype:
        raise DataError(
            f"the engine takes {dtype} {list(shape)} and was given {batch.dtype} {list(batch.shape)}",
            "preprocess with the facts of the bundle the engine is from",
        )


def check_output(rows: npt.NDArray[np.float32], runtime: str) -> None:
    """Raises EngineError. One dot product of rows [N, D]: a NaN or an infinity anywhere makes it one."""
    if not math.isfinite(float(np.vdot(rows, rows))):
        raise EngineError(
            "it returned values that are not finite",
            f"{runtime} computes this engine wrongly: use another --backend, or build the bundle again",
        )
