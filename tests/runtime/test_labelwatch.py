from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edgeclip.errors import DataError, EngineError
from edgeclip.runtime.editedfile import EditedFile
from edgeclip.runtime.labels import LabelFile, parse_labels
from edgeclip.runtime.labelwatch import LabelWatch
from edgeclip.types import Label, TextBank

Watch = LabelWatch[tuple[Label, ...], TextBank]


def embed(labels: tuple[Label, ...]) -> TextBank:
    if any(label.name == "unembeddable" for label in labels):
        raise EngineError("the text engine failed", "try another")
    return TextBank(tuple(label.name for label in labels), np.eye(len(labels), 4, dtype=np.float32), "sha256:0")


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\n")
    return path


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def watch(labels: Path, notices: list[str]) -> Iterator[Watch]:
    with LabelWatch(LabelFile(labels), embed, notices.append, every_s=0.05) as watch:
        yield watch


def save(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    os.replace(beside, path)


def within(seconds: float, is_so: Callable[[], object]) -> bool:
    deadline_s = time.monotonic() + seconds
    while not is_so() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return bool(is_so())


def test_a_good_edit_is_handed_out_once(watch: Watch, labels: Path, notices: list[str]) -> None:
    assert watch.take() is None
    save(labels, "cat\nzebra\n")
    assert within(10, lambda: watch.fresh)
    bank = watch.take()
    assert bank is not None
    assert bank.names == ("cat", "zebra")
    assert watch.take() is None
    assert notices == ["labels changed: 2 in force"]


def test_a_bad_edit_is_refused_aloud_once(watch: Watch, labels: Path, notices: list[str]) -> None:
    save(labels, "cat\ncat\n")
    assert within(10, lambda: notices)
    time.sleep(1.5)
    assert len(notices) == 1
    assert "the old ones stay" in notices[0]
    assert "labels.txt:2" in notices[0]
    assert not watch.fresh


def test_a_file_that_was_away_is_told_of_once_and_so_is_its_return(
    watch: Watch, labels: Path, notices: list[str]
) -> None:
    away = labels.with_suffix(".away")
    os.replace(labels, away)
    assert within(10, lambda: notices)
    time.sleep(1.5)
    os.replace(away, labels)
    assert within(10, lambda: len(notices) > 1)
    time.sleep(1.5)
    assert not watch.fresh
    assert notices == [
        f"labels not changed, the old ones stay: cannot read the labels file {labels}: No such file or directory "
        "(check the path given to --labels)",
        "labels: the file is well again, and says what is in force",
    ]


def test_a_bad_edit_that_is_taken_back_is_told_of(watch: Watch, labels: Path, notices: list[str]) -> None:
    save(labels, "cat\ncat\n")
    assert within(10, lambda: notices)
    save(labels, "cat\ndog\n")
    assert within(10, lambda: len(notices) > 1)
    assert "well again" in notices[1]
    save(labels, "zebra\n")
    assert within(10, lambda: watch.fresh)
    assert notices[2:] == ["labels changed: 1 in force"]


def test_labels_that_cannot_be_embedded_are_refused_and_the_watch_goes_on(
    watch: Watch, labels: Path, notices: list[str]
) -> None:
    save(labels, "unembeddable\n")
    assert within(10, lambda: notices)
    assert "the text engine failed (try another)" in notices[0]
    save(labels, "zebra\n")
    assert within(10, lambda: watch.fresh)
    assert notices[1:] == ["labels changed: 1 in force"]


def test_an_edit_that_fails_passingly_is_tried_again_until_it_can_be_done_and_told_of_twice(
    labels: Path, notices: list[str]
) -> None:
    tries: list[float] = []

    def short_of_memory(some: tuple[Label, ...]) -> TextBank:
        tries.append(time.monotonic())
        if len(tries) < 4:
            raise MemoryError("no room for the text engine")
        return embed(some)

    with LabelWatch(LabelFile(labels), short_of_memory, notices.append, every_s=0.02, pause_s=0.2) as watch:
        save(labels, "zebra\n")
        assert within(20, lambda: watch.fresh)
        bank = watch.take()
    assert bank is not None
    assert bank.names == ("zebra",)
    assert notices == [
        "labels not changed yet, the old ones stay until it can be done: no room for the text engine",
        "labels changed: 1 in force, at try 4",
    ]
    assert [b - a >= pause_s for (a, b), pause_s in zip(pairwise(tries), (0.2, 0.4, 0.8), strict=True)] == [True] * 3


def test_another_edit_takes_the_place_of_one_that_waits(labels: Path, notices: list[str]) -> None:
    with LabelWatch(LabelFile(labels), embed, notices.append, every_s=0.02, pause_s=0.5) as watch:
        save(labels, "unembeddable\n")
        assert within(10, lambda: notices)
        save(labels, "zebra\n")
        assert within(10, lambda: watch.fresh)
        time.sleep(1.5)
        assert watch.fresh.pop().names == ("zebra",)
    assert len(notices) == 2


def test_an_edit_that_is_wrong_in_itself_is_not_tried_again(labels: Path, notices: list[str]) -> None:
    tries: list[object] = []

    def unknown(some: tuple[Label, ...]) -> TextBank:
        tries.append(some)
        raise DataError("the bank knows no 'zebra'")

    with LabelWatch(LabelFile(labels), unknown, notices.append, every_s=0.02, pause_s=0.1):
        save(labels, "zebra\n")
        assert within(10, lambda: notices)
        time.sleep(0.5)
    assert len(tries) == 1
    assert notices == ["labels not changed, the old ones stay: the bank knows no 'zebra'"]


def test_a_file_that_may_be_read_again_is_looked_at_again(labels: Path, notices: list[str]) -> None:
    """A chmod changes neither time nor size. Tests may run as root, who may read everything: hence read()."""

    def read() -> tuple[Label, ...]:
        if not labels.stat().st_mode & 0o400:
            raise DataError(f"{labels}: permission denied")
        return parse_labels(labels)

    with LabelWatch(EditedFile(read, labels), embed, notices.append, every_s=0.05) as watch:
        beside = labels.with_suffix(".new")
        beside.write_text("zebra\n")
        beside.chmod(0)
        os.replace(beside, labels)
        assert within(10, lambda: notices)
        labels.chmod(0o644)
        assert within(10, lambda: watch.fresh)


def test_an_edit_that_breaks_something_else_is_told_and_the_watch_goes_on(labels: Path, notices: list[str]) -> None:
    def breaks(some: tuple[Label, ...]) -> TextBank:
        if len(some) == 1:
            raise FileNotFoundError("the text engine's file is gone")
        return embed(some)

    with LabelWatch(LabelFile(labels), breaks, notices.append, every_s=0.05) as watch:
        save(labels, "zebra\n")
        assert within(10, lambda: notices)
        assert "the text engine's file is gone" in notices[0]
        save(labels, "zebra\nhorse\n")
        assert within(10, lambda: watch.fresh)
