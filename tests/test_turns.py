"""Timing in turns."""

from __future__ import annotations

import time

from edgeclip.turns import latencies_ms


def test_latencies_are_taken_turn_by_turn() -> None:
    turns: list[str] = []
    latencies_ms({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, rounds=3)
    assert turns[-6:] == ["a", "b"] * 3


def test_what_takes_longer_has_the_larger_latency() -> None:
    found = latencies_ms({"slow": lambda: time.sleep(0.02), "quick": lambda: None}, rounds=3)
    assert found["slow"] >= 20.0 > found["quick"]
