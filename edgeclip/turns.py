"""Engines timed beside one another, in turns: what slows the machine for a moment slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

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
    deadline = time.perf_counter() + LONGEST_S
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.perf_counter() > deadline:
            break
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            times[name].append(1000.0 * (time.perf_counter() - began))
    return {name: float(np.median(values)) for name, values in times.items()}
