from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeclip.runtime.heartbeat import Heartbeat
from edgeclip.types import Decision, Frame

FRAME = Frame(np.zeros((2, 2, 3), np.uint8), 0, 0, 0, "yard")


@dataclass
class Feed:
    """A supervised source, as it shows itself."""

    name: str
    state: str = "streaming"
    last_error: str | None = None

    @property
    def source(self) -> Any:
        return SimpleNamespace(name=self.name)


@dataclass
class Bench:
    """A heartbeat whose clock the test moves; keeps what was told."""

    watchdog_s: float | None = 8.0
    now_s: float = 100.0
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.heartbeat = Heartbeat(
            lambda *lines: self.told.extend(lines), watchdog_s=self.watchdog_s, clock_s=lambda: self.now_s
        )

    def turns(self, seconds: float) -> list[str]:
        """What is told while the frame loop turns for so long."""
        self.told.clear()
        for _ in range(round(seconds / 0.2)):
            self.now_s += 0.2
            self.heartbeat.turn()
        return list(self.told)


def decision(source: str = "yard", fps: float = 12.0, age_ms: float = 40.0) -> Decision:
    return Decision(0, source, 0, 0, round(age_ms * 1e6), ("cat",), np.ones(1, np.float32), (0,), 0, fps)


def test_ready_comes_with_the_first_decision_and_once() -> None:
    bench = Bench()
    assert "READY=1" not in bench.turns(2)  # the engine is still loading: nothing was begun
    bench.heartbeat.begin("nano", [Feed("yard")])
    assert "READY=1" not in bench.turns(5)
    bench.heartbeat.write(decision(), FRAME)
    told = bench.turns(5)
    assert told[:2] == ["READY=1", "STATUS=nano: yard 12.0 fps, age 40 ms"]
    assert told.count("READY=1") == 1


def test_a_camera_that_never_comes_leaves_the_service_up_and_degraded() -> None:
    bench = Bench()
    bench.heartbeat.begin("nano", [Feed("yard", "lost", "no route to host")])
    assert "READY=1" not in bench.turns(29)
    told = bench.turns(2)
    assert told[told.index("READY=1") + 1] == "STATUS=degraded: nano: yard lost (no route to host)"


def test_a_source_that_streams_and_is_never_decided_does_not_make_it_ready() -> None:
    bench = Bench()
    bench.heartbeat.begin("nano", [Feed("yard", "streaming"), Feed("door", "lost")])
    assert "READY=1" not in bench.turns(60)


def test_the_watchdog_is_fed_four_times_as_often_as_it_must_while_the_loop_turns() -> None:
    bench = Bench(watchdog_s=8.0)
    bench.heartbeat.begin("nano", [Feed("yard", "lost")])
    assert 4 <= bench.turns(10).count("WATCHDOG=1") <= 6
    bench.told.clear()
    bench.now_s += 60  # the loop hangs: nobody calls
    assert bench.told == []


def test_between_two_runs_the_manager_is_told_once_to_wait_longer_and_the_loop_takes_it_back() -> None:
    bench = Bench(watchdog_s=8.0)
    bench.heartbeat.begin("nano", [Feed("yard")])
    bench.turns(2)
    bench.told.clear()
    bench.heartbeat.end()
    assert bench.told == ["WATCHDOG_USEC=90000000", "WATCHDOG=1"]
    bench.now_s += 60.0  # what is closed takes long
    bench.heartbeat.start_again(30.0)
    assert "WATCHDOG=1" in bench.told  # and as long again to begin
    told = bench.turns(0.2)
    assert told[:2] == ["WATCHDOG_USEC=8000000", "WATCHDOG=1"]
    assert not any(line.startswith("WATCHDOG_USEC") for line in bench.turns(60))


@pytest.mark.parametrize("watchdog_s", [None, 200.0])
def test_a_watchdog_that_is_off_or_patient_already_is_left_as_it_is(watchdog_s: float | None) -> None:
    bench = Bench(watchdog_s)
    bench.heartbeat.end()
    bench.turns(1)
    assert not any(line.startswith("WATCHDOG_USEC") for line in bench.told)


def test_the_status_says_which_of_several_cameras_is_gone_and_how_the_others_do() -> None:
    bench = Bench()
    feeds = [Feed("yard"), Feed("door", "lost", "no frame for 5 s")]
    bench.heartbeat.begin("nano", feeds)
    bench.heartbeat.write(decision("yard", 9.9, 31), FRAME)
    bench.heartbeat.write(decision("door", 5.0, 20), FRAME)
    bench.now_s += 11
    bench.heartbeat.write(decision("yard", 9.9, 31), FRAME)
    assert bench.heartbeat.status() == "degraded: nano: door lost (no frame for 5 s); yard 9.9 fps, age 31 ms"
    feeds[1].state = "streaming"
    bench.heartbeat.write(decision("door", 5.0, 20), FRAME)
    assert bench.heartbeat.status() == "nano: door 5.0 fps, age 20 ms; yard 9.9 fps, age 31 ms"
