"""INT8 beside floating point on this GPU: which of two plans of one encoder is kept, and why."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edgeclip.bundle import Target
from edgeclip.runtime.backends.tensorrt import TensorRTEngine
from edgeclip.turns import TIE, engines_ms
from edgeclip.types import Engine

INT8 = "int8"


@dataclass(frozen=True)
class Choice:
    """precision: of the plan that is kept. latency_ms: of one run, by precision, "int8" and the other."""

    precision: str
    latency_ms: dict[str, float]

    def __str__(self) -> str:
        times = ", ".join(f"{name.upper()} {ms:.2f} ms" for name, ms in self.latency_ms.items())
        why = "it is faster" if self.precision == INT8 else "INT8 is not faster and rounds more"
        return f"{times} on this GPU: {self.precision.upper()} is kept, {why}"


def choose(plans: Mapping[str, Path], target: Target) -> Choice:
    """Load the plans (by precision), run them in turns on an empty picture, and keep the better one."""
    with ExitStack() as stack:
        engines: dict[str, Engine] = {}
        for precision, path in plans.items():
            engine = engines[precision] = TensorRTEngine(path, 1, target)
            stack.callback(engine.close)
        return faster(engines)


def faster(engines: Mapping[str, Engine]) -> Choice:
    """INT8 where it is more than a tie faster; the other rounds less."""
    times = engines_ms(engines)
    other = next(precision for precision in times if precision != INT8)
    return Choice(INT8 if times[INT8] * TIE < times[other] else other, times)
