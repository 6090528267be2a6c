from __future__ import annotations

import numpy as np
import pytest

from edgeclip.region import WHOLE, Region
from edgeclip.runtime.background import Background
from edgeclip.runtime.evidence import Null
from edgeclip.runtime.watchbank import WatchBank, load_watch_bank
from edgeclip.runtime.watches import Watch, WatchFile
from edgeclip.runtime.watching import Watching
from edgeclip.types import Change, Embeddings, Frame, Label, TextBank

AXES = ("cat", "dog", "wall")
S_NS = 1_000_000_000


def embed(labels: list[Label]) -> TextBank:
    rows = np.eye(3, dtype=np.float32)[[AXES.index((*label.prompts, label.name)[0]) for label in labels]]
    return TextBank(tuple(label.name for label in labels), rows, "sha256:0")


def bank(*watches: Watch) -> WatchBank:
    background = Background(np.eye(3, dtype=np.float32)[2:], Null(0.0, 0.2, 0.0, 10.0))
    return load_watch_bank(WatchFile(watches=list(watches)), background, embed)


def seeing(name: str, rows: int = 1) -> Embeddings:
    return np.eye(3, dtype=np.float32)[[AXES.index(name)] * rows]


def frame(second: float) -> Frame:
    return Frame(np.zeros((1, 1, 3), np.uint8), 0, round(second * S_NS), 5 + round(second * S_NS), "door")


def play(watching: Watching, *seen: tuple[float, str], lane: int = 0) -> list[tuple[str, bool, str]]:
    """(watch, on, reason) of all changes over frames of (second, what is seen)."""
    changes: list[Change] = []
    for second, name in seen:
        regions = watching.regions
        watching.update(lane, seeing(name, len(regions)), regions, round(second * S_NS), frame(second))
        changes += watching.changes(lane)
    return [(change.watch, change.on, change.reason) for change in changes]


def test_a_watch_begins_and_ends_and_ends_with_its_source() -> None:
    watching = Watching(bank(Watch(name="cat", smoothing_s=0)), ["door"])
    assert play(watching, (0, "wall"), (1, "cat"), (2, "cat"), (3, "wall"), (4, "cat")) == [
        ("cat", True, ""),
        ("cat", False, "left"),
        ("cat", True, ""),
    ]
    ended = watching.end(0)
    assert [(change.on, change.reason, change.began_ns) for change in ended] == [(False, "source ended", 4 * S_NS)]
    assert watching.end(0) == ()


def test_smoothing_is_each_watchs_own_and_a_glimpse_does_not_pass_it() -> None:
    watching = Watching(
        bank(Watch(name="quick", prompts="cat", smoothing_s=0), Watch(name="slow", prompts="cat", smoothing_s=10)),
        ["door"],
    )
    found = play(watching, (0, "wall"), (1, "cat"), (1.1, "wall"))
    assert found == [("quick", True, ""), ("quick", False, "left")]
    assert play(watching, (10, "cat"), (40, "cat")) == [("quick", True, ""), ("slow", True, "")]


def test_watches_of_other_sources_are_not_shown_and_sources_are_apart() -> None:
    watching = Watching(bank(Watch(name="cat", source="do*"), Watch(name="dog")), ["door", "yard"])
    assert [state.name for state in watching.update(0, seeing("cat"), WHOLE, 0, frame(0))] == ["cat", "dog"]
    assert [state.name for state in watching.update(1, seeing("cat"), WHOLE, 0, frame(0))] == ["dog"]
    assert [change.watch for change in watching.changes(0)] == ["cat"]
    assert watching.changes(1) == ()


def test_an_edit_ends_what_it_changed_and_leaves_the_rest_alone() -> None:
    cat, other = Watch(name="cat", smoothing_s=0), Watch(name="also cat", prompts="cat", smoothing_s=0)
    fresh: list[WatchBank] = []
    watching = Watching(bank(cat, other), ["door"], lambda: fresh.pop() if fresh else None)
    assert len(play(watching, (0, "cat"))) == 2
    fresh.append(bank(cat, Watch(name="also cat", prompts="cat", smoothing_s=0, dwell_s=9), Watch(name="dog")))
    assert play(watching, (1, "cat")) == [("also cat", False, "watches changed")]
    assert [state.on for state in watching.update(0, seeing("cat"), WHOLE, 2 * S_NS, frame(2))] == [True, False, False]
    fresh.append(bank(Watch(name="dog")))
    assert play(watching, (3, "cat")) == [("cat", False, "watches changed")]


def test_a_frame_that_was_cut_for_other_regions_decides_nothing() -> None:
    left = Region(box=(0, 0, 0.5, 1))
    watching = Watching(bank(Watch(name="cat", region=left, smoothing_s=0)), ["door"])
    assert watching.regions == (None, left)
    states = watching.update(0, seeing("cat"), WHOLE, 0, frame(0))
    assert [(state.probability, state.on, state.outline) for state in states] == [(0.0, False, left.outline)]
    assert play(watching, (1, "cat")) == [("cat", True, "")]


def test_a_film_that_begins_again_is_not_smoothed_with_its_end() -> None:
    watching = Watching(bank(Watch(name="cat", smoothing_s=100)), ["door"])
    play(watching, (50, "wall"))
    states = watching.update(0, seeing("cat"), WHOLE, 0, frame(0))
    assert states[0].probability == pytest.approx(1.0, abs=0.01)
