from __future__ import annotations

from edgeclip.compile.monitor import STEPS, Monitor, Phases
from edgeclip.progress import Silent


def test_phases_within_phases_add_up() -> None:
    phases = Phases()
    phases.start("build", None, 2)
    phases.start("optimise", "build", 4)
    seen = [phases.share]
    for step in range(4):
        phases.step("optimise", step)
        seen.append(phases.share)
    phases.finish("optimise")
    phases.step("build", 0)
    assert phases.share == 0.5
    phases.start("time", "build", 10)
    phases.start("time one", "time", 2)
    phases.step("time one", 0)
    seen.append(phases.share)
    assert 0.5 < phases.share < 0.6
    phases.finish("time one")
    phases.finish("time")
    phases.finish("build")
    assert phases.share == 1.0
    assert seen == sorted(seen)


def test_what_it_never_heard_of_is_no_matter() -> None:
    phases = Phases()
    phases.step("unknown", 3)
    phases.finish("unknown")
    assert phases.share == 0.0
    phases.start("build", "a parent that never began", 0)
    phases.finish("build")
    assert phases.share == 1.0


class Told(Silent):
    def __init__(self) -> None:
        self.count = 0

    def advance(self, n: int = 1) -> None:
        self.count += n


def test_it_tells_each_step_once_and_stops_when_interrupted() -> None:
    told = Told()
    monitor = Monitor(told)
    monitor.start("build", None, 4)
    assert monitor.step("build", 0)
    assert told.count == STEPS // 4
    assert monitor.step("build", 0)
    assert told.count == STEPS // 4
    monitor.interrupted = True
    assert not monitor.step("build", 1)
    monitor.finish("build")
    assert told.count == STEPS
