"""Engines timed beside one another, in turns: what slows the machine for a moment slows all of them alike."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping

import numpy as np

from edgeclip.types import Engine

TIE = 1.02  # times this near are a tie, which accuracy decides
ROUNDS = 60
WARM_UP = 3
LONGEST_S = 30.0  # of timing; a large tower's rounds are fewer
FEWEST_ROUNDS = 8


def latencies_ms(runs: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median time of each."""
    for run in runs.values():
        for _ in range(WARM_UP):
            run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    deadline_s = time.perf_counter() + LONGEST_S
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.perf_counter() > deadline_s:
            break
        for name, run in runs.items():
            began_s = time.perf_counter()
            run()
            times[name].append(1000.0 * (time.perf_counter() - began_s))
    return {name: float(np.median(values)) for name, values in times.items()}


def engines_ms(engines: Mapping[str, Engine]) -> dict[str, float]:
    """Median time of one run of each, on an empty input of its own shape."""
    return latencies_ms(
        {
            name: functools.partial(engine.run, np.zeros(engine.input_shape, engine.input_dtype))
            for name, engine in engines.items()
        }
    )
