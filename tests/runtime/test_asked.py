"""Edits of a watches file while no frame comes, as while a camera is away."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgeclip.bundle import Bundle
from edgeclip.config import load_config
from edgeclip.errors import DataError
from edgeclip.runtime.asked import Looking, read_asked
from edgeclip.runtime.labelbank import load_bank
from edgeclip.types import Label, TextBank


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGECLIP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "watches.yaml"
    path.write_text("labels: [cat, dog]\n")
    return path


def looking(bundle: Bundle, file: Path, notices: list[str]) -> Looking:
    def embed(labels: Sequence[Label], **options: object) -> TextBank:
        if any(label.name == "unembeddable" for label in labels):
            raise DataError("the bank knows no 'unembeddable'")
        return load_bank(bundle, labels)

    config = load_config({"source": ("demo",), "watch": str(file)}, {})
    asked = read_asked(config, bundle, notices.append)
    return Looking(asked, config, bundle, functools.partial(embed), ["demo"], notices.append)


def edit(file: Path, text: str, notices: list[str]) -> str:
    """The notice that it was taken, or refused."""
    before = len(notices)
    beside = file.with_suffix(".new")
    beside.write_text(text)
    os.replace(beside, file)
    deadline_s = time.monotonic() + 20.0
    while not (told := [text for text in notices[before:] if text.startswith("watches ") and "changed" in text]):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return told[0]


def test_two_edits_between_two_frames_both_count(tiny: Bundle, file: Path) -> None:
    notices: list[str] = []
    with looking(tiny, file, notices) as some:
        edit(file, "labels: [cat, horse]\n", notices)
        edit(file, "labels: [cat, horse]\nwatches: [{name: a dog}]\n", notices)
        bank = some.fresh_bank()
        assert bank is not None
        assert bank.names == ("cat", "horse")
        edit(file, "labels: [cat, horse]\nwatches: [{name: a tree}]\n", notices)
        assert some.fresh_bank() is None  # the labels are as they were: what was smoothed stays


def test_labels_that_were_refused_are_refused_again_and_not_taken_for_those_in_force(tiny: Bundle, file: Path) -> None:
    notices: list[str] = []
    with looking(tiny, file, notices):
        assert "not changed" in edit(file, "labels: [cat, unembeddable]\n", notices)
        assert "not changed" in edit(file, "labels: [cat, unembeddable]\nwatches: [{name: a dog}]\n", notices)


def test_watches_that_fail_passingly_are_tried_again(tiny: Bundle, file: Path) -> None:
    notices: list[str] = []
    short = [True]

    def embed(labels: Sequence[Label], **options: object) -> TextBank:
        if short[0] and any(label.name == "a dog" for label in labels):
            raise MemoryError("no room for the text engine")
        return load_bank(tiny, labels)

    config = load_config({"source": ("demo",), "watch": str(file)}, {})
    asked = read_asked(config, tiny, notices.append)
    with Looking(asked, config, tiny, embed, ["demo"], notices.append) as some:
        some._watch_watch._pause_s = 0.1  # type: ignore[union-attr]
        told = edit(file, "labels: [cat, dog]\nwatches: [{name: a dog}]\n", notices)
        assert told.startswith("watches not changed yet")
        short[0] = False
        deadline_s = time.monotonic() + 20.0
        while not any(text.startswith("watches changed: 1 watches") for text in notices):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        some.fresh_bank()
        assert some._fresh_watches is not None
        assert [watch.name for watch in some._fresh_watches.watches] == ["a dog"]
