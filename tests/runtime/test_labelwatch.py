from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeclip.errors import EngineError
from edgeclip.runtime.labels import LabelFile
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


def test_labels_that_cannot_be_embedded_are_refused_and_the_watch_goes_on(
    watch: Watch, labels: Path, notices: list[str]
) -> None:
    save(labels, "unembeddable\n")
    assert within(10, lambda: notices)
    assert "the text engine failed (try another)" in notices[0]
    save(labels, "zebra\n")
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
