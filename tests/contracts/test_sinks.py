"""What every sink in the table keeps to."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeclip.errors import USAGE, UsageError
from edgeclip.runtime.sinks import NEEDS_PATH, SINKS, make_sink
from edgeclip.runtime.sinks.setting import Setting
from edgeclip.types import Decision, Frame, Sink

PATHS = {"decisions": "decisions.jsonl", "jsonl": "out.jsonl", "snapshot": "out.png", "video": "out.mp4"}


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Sink]:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")

    def make_one(scheme: str) -> Sink:
        target = str(tmp_path / PATHS[scheme]) if scheme in NEEDS_PATH else ""
        return make_sink(f"{scheme}:{target}", Setting(stdout, "nano", "LiteRT", 10.0, False))

    return make_one


def a_decision(index: int, names: tuple[str, ...] = ("cat", "Käse")) -> tuple[Decision, Frame]:
    frame = Frame(np.full((48, 64, 3), index, np.uint8), index, index, index, "demo")
    scores = np.linspace(1, 0, len(names), dtype=np.float32)
    return Decision(index, "demo", index, index, 1000, names, scores, tuple(range(len(names))), 0, 0.0), frame


def test_every_path_sink_is_covered_here() -> None:
    assert set(PATHS) == set(NEEDS_PATH)


@pytest.mark.parametrize("scheme", SINKS)
def test_takes_decisions_between_open_and_close(scheme: str, make: Callable[[str], Sink]) -> None:
    sink = make(scheme)
    sink.open()
    for index in range(3):
        decision, frame = a_decision(index)
        scores, pixels = decision.scores.copy(), frame.pixels.copy()
        sink.write(decision, frame)
        assert (decision.scores == scores).all(), "a sink changed the decision"
        assert (frame.pixels == pixels).all(), "a sink drew into the frame"
    sink.close()


@pytest.mark.parametrize("scheme", SINKS)
def test_labels_may_change_between_two_decisions(scheme: str, make: Callable[[str], Sink]) -> None:
    sink = make(scheme)
    sink.open()
    sink.write(*a_decision(0))
    sink.write(*a_decision(1, ("猫",)))
    sink.write(*a_decision(2, tuple("abcdefgh")))
    sink.close()


@pytest.mark.parametrize("scheme", SINKS)
def test_a_run_without_a_decision_leaves_no_broken_file(
    scheme: str, make: Callable[[str], Sink], tmp_path: Path
) -> None:
    sink = make(scheme)
    sink.open()
    sink.close()
    assert all(path.suffix == ".jsonl" and not path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize("uri", ["mqtts://broker/topic", "file.jsonl", "", "jsonl", "out.jsonl:jsonl"])
def test_an_unknown_scheme_is_refused_with_the_list_of_known_ones(uri: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_sink(uri, Setting(io.StringIO(), "nano", "LiteRT", None, True))
    assert caught.value.exit_code == USAGE
    assert all(scheme in caught.value.hint for scheme in SINKS)


@pytest.mark.parametrize("scheme", sorted(NEEDS_PATH))
def test_a_missing_path_is_refused(scheme: str) -> None:
    with pytest.raises(UsageError, match="path is missing"):
        make_sink(f"{scheme}:", Setting(io.StringIO(), "nano", "LiteRT", None, True))
