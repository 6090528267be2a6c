from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeclip.errors import UNAVAILABLE, ConfigError, EdgeclipError, UsageError
from edgeclip.runtime.sinks.jsonl import JsonlFile, to_file, to_line, to_stdout
from edgeclip.types import Change, WatchState
from sinks.picture import decision, frame, setting


def test_a_line_says_all_of_a_decision() -> None:
    line = to_line(decision(frame(41), {"cat": 0.9, "dog": 0.06, "Käse": 0.04}, top=2))
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "time": "2026-08-01T12:00:00.123Z",
        "source": "demo",
        "frame": 41,
        "captured_ns": 1_000_000_000,
        "age_ms": 41.0,
        "label": "cat",
        "score": 0.9,
        "scores": {"cat": 0.9, "dog": 0.06},
        "drops": 3,
        "fps": 19.8,
        "unknown": 0.0,
    }


def test_scores_are_best_first_and_utf8() -> None:
    line = to_line(decision(frame(), {"dog": 0.1, "Käse": 0.9}))
    assert list(json.loads(line)["scores"]) == ["Käse", "dog"]
    assert "Käse".encode() in line


def test_stdout_gets_every_line_at_once() -> None:
    raw = io.BytesIO()
    stdout = io.TextIOWrapper(raw, encoding="utf-8")
    sink = to_stdout("", setting(stdout))
    sink.open()
    for index in range(3):
        sink.write(decision(frame(index)), frame(index))
        assert raw.getvalue().count(b"\n") == index + 1
    sink.close()


def test_a_file_is_continued_and_each_line_is_there_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.jsonl"
    for index in range(2):
        sink = JsonlFile(str(path))
        sink.open()
        sink.write(decision(frame(index)), frame(index))
        assert [json.loads(line)["frame"] for line in path.read_text().splitlines()] == list(range(index + 1))
        sink.close()


def test_a_file_may_be_bounded(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    one = len(to_line(decision(frame(100))))
    for begin in (100, 104, 107):  # restarted twice
        sink = JsonlFile(f"{path}?max_mb={2.5 * one / 1e6}&keep=2")
        sink.open()
        for index in range(begin, {100: 104, 104: 107, 107: 109}[begin]):
            sink.write(decision(frame(index)), frame(index))
        sink.close()
    kept = [file.read_text().splitlines() for file in sorted(tmp_path.iterdir())]
    assert [[json.loads(line)["frame"] for line in lines] for lines in kept] == [[108], [106, 107], [104, 105]]
    with pytest.raises(UsageError, match="its options are wrong"):
        JsonlFile(f"{path}?keep=few")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=str(tmp_path)):
        JsonlFile(str(tmp_path)).open()
    full = JsonlFile("/dev/full")
    full.open()
    with pytest.raises(EdgeclipError, match="/dev/full") as full_disk:
        full.write(decision(frame()), frame())
    assert full_disk.value.exit_code == UNAVAILABLE  # a service is started again
    full.close()


def test_half_a_line_of_an_earlier_run_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(to_line(decision(frame(1))) + to_line(decision(frame(2)))[:20])
    for number in (3, 4):
        sink = JsonlFile(str(path))
        sink.open()
        sink.write(decision(frame(number)), frame(number))
        sink.close()
    whole, half, *others = path.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["frame"] for line in (whole, *others)] == [1, 3, 4]
    assert len(half) == 20 + 1


def test_watches_changes_and_unknown_are_told_and_a_closing_decision_is_no_line(tmp_path: Path) -> None:
    one = frame(41)
    more = replace(
        decision(one),
        unknown=0.75,
        watches=(WatchState("door", 0.9, 0.8, True), WatchState("yard", 0.1, 0.8, False)),
        changes=(Change("door", True, 5, 6, 0.9, 0.95, 0.8),),
    )
    record = json.loads(to_line(more))
    assert (record["label"], record["score"], record["unknown"]) == ("unknown", 0.75, 0.75)
    assert record["watches"] == {
        "door": {"probability": 0.9, "on": True},
        "yard": {"probability": 0.1, "on": False},
    }
    assert record["changes"] == [{"watch": "door", "on": True, "peak": 0.95, "reason": ""}]
    assert json.loads(to_line(replace(more, names=(), order=(), unknown=0.0)))["label"] is None
    sink = to_file(str(tmp_path / "out.jsonl"), setting())
    sink.open()
    sink.write(more, one)
    sink.write(replace(more, closing=True), one)
    sink.close()
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1


def test_a_picture_of_a_folder_is_named() -> None:
    line = to_line(replace(decision(frame()), picture="shots/7.jpg"))
    assert json.loads(line)["picture"] == "shots/7.jpg"
