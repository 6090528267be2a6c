from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgeclip.region import Region
from edgeclip.runtime.background import Background
from edgeclip.runtime.evidence import Null
from edgeclip.runtime.thresholds import Thresholds, Tuned
from edgeclip.runtime.watchbank import load_watch_bank
from edgeclip.runtime.watches import Watch, WatchFile, usual_leave
from edgeclip.types import Label, TextBank

AXES = ("cat", "dog", "wall", "sofa")  # each its own direction
BACKGROUND = Background(np.eye(4, dtype=np.float32)[2:], Null(0.0, 0.2, 0.0, 10.0))


def embed(labels: Sequence[Label]) -> TextBank:
    rows = [np.eye(4)[[AXES.index(text) for text in label.prompts or (label.name,)]].mean(axis=0) for label in labels]
    vectors = np.stack(rows).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return TextBank(tuple(label.name for label in labels), vectors, "sha256:0")


def frame(*rows: str) -> np.ndarray:
    return np.stack([np.eye(4, dtype=np.float32)[AXES.index(row)] for row in rows])


def test_every_watch_looks_at_its_own_region_against_its_own_negatives() -> None:
    left, right = Region(box=(0, 0, 0.5, 1)), Region(box=(0.5, 0, 1, 1))
    file = WatchFile(
        watches=[
            Watch(name="cat"),
            Watch(name="left", prompts="cat", region=left),
            Watch(name="right", prompts="cat", region=right),
            Watch(name="also left", prompts="cat", negatives=["dog", "cat "], region=left),
        ]
    )
    bank = load_watch_bank(
        file,
        BACKGROUND,
        lambda labels: embed([Label(x.name.strip(), tuple(p.strip() for p in x.prompts)) for x in labels]),
    )
    assert bank.regions == (None, left, right)
    assert bank.region.tolist() == [0, 1, 2, 1]
    odds = bank.log_odds(frame("dog", "cat", "dog"))
    assert odds[1] > 2 > -2 > odds[0] == odds[2]
    assert odds[3] <= 0.0  # one of its negatives is what it is


def test_a_background_text_that_says_what_the_watch_says_does_not_count_against_it() -> None:
    bank = load_watch_bank(WatchFile(watches=[Watch(name="wall"), Watch(name="cat")]), BACKGROUND, embed)
    assert bank.apart.tolist() == [[False, True], [True, True]]


def test_thresholds_as_written_else_as_tuned_for_exactly_this_else_the_usual() -> None:
    file = WatchFile(
        watches=[Watch(name="cat"), Watch(name="dog", enter=0.7), Watch(name="wall", dwell_s=2.0), Watch(name="sofa")]
    )
    tuned = {watch.name: Tuned(file.digest(watch), 0.95, 0.9) for watch in file.watches[:2]}
    tuned["wall"] = Tuned("sha256:older", 0.95, 0.9)
    told: list[str] = []
    bank = load_watch_bank(
        file, BACKGROUND, embed, thresholds=Thresholds("sha256:0", tuned), space="sha256:0", notify=told.append
    )
    cat, dog, wall, sofa = bank.rules
    assert (cat.enter, cat.leave) == (0.95, 0.9)
    assert (dog.enter, dog.leave) == (0.7, usual_leave(0.7))
    assert (wall.enter, wall.dwell_s) == (0.8, 2.0)
    assert sofa.enter == 0.8
    assert [("dog" in line, "wall" in line) for line in told] == [(True, False), (False, True)]


def test_thresholds_of_another_space_are_not_used() -> None:
    file = WatchFile(watches=[Watch(name="cat")])
    tuned = Thresholds("sha256:other", {"cat": Tuned(file.digest(file.watches[0]), 0.95, 0.9)})
    told: list[str] = []
    bank = load_watch_bank(file, BACKGROUND, embed, thresholds=tuned, space="sha256:0", notify=told.append)
    assert bank.rules[0].enter == pytest.approx(0.8)
    assert "another embedding space" in told[0]
