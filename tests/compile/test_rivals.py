"""INT8 beside floating point: who is kept."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from edgeclip.compile.rivals import faster


class Engine:
    """Takes as long as it is told to."""

    input_shape, input_dtype, runtime = (1, 4, 4, 3), np.dtype(np.uint8), "a clock"

    def __init__(self, ms: float) -> None:
        self.seconds = ms / 1000

    def run(self, batch: Any) -> Any:
        assert batch.shape == self.input_shape
        assert batch.dtype == self.input_dtype
        time.sleep(self.seconds)

    def close(self) -> None: ...


def test_the_faster_one_is_kept_and_both_times_are_told() -> None:
    choice = faster({"int8": Engine(1), "fp16": Engine(20)})
    assert choice.precision == "int8"
    assert choice.latency_ms["int8"] < choice.latency_ms["fp16"]
    assert str(choice).startswith("INT8 ")
    assert str(choice).endswith("on this GPU: INT8 is kept, it is faster")
    choice = faster({"int8": Engine(20), "fp16": Engine(1)})
    assert choice.precision == "fp16"
    assert str(choice).endswith("FP16 is kept, INT8 is not faster and rounds more")


def test_a_tie_goes_to_the_one_that_rounds_less() -> None:
    assert faster({"int8": Engine(30), "fp32": Engine(30.1)}).precision == "fp32"
