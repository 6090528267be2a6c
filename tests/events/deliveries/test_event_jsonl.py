from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from events.made import row, setting

from edgeclip.events.deliveries.jsonl import JsonlFile
from edgeclip.events.delivery import Message, Unreachable


def test_a_line_a_message_and_a_file_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "new" / "events.jsonl"
    for first in (1, 3):
        sink = JsonlFile(f"jsonl:{path}", setting())
        sink.open()
        done: list[Message] = []
        sink.deliver([row(first), row(first + 1)], done.append)
        sink.close()
        assert len(done) == 2
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [f"{n}-started" for n in (1, 2, 3, 4)]


def test_a_line_that_a_power_cut_left_half_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(row(1).body + b"\n" + row(2).body[:50])
    sink = JsonlFile(f"jsonl:{path}", setting())
    sink.open()
    sink.deliver([row(2)], lambda message: None)
    sink.close()
    assert path.read_bytes() == row(1).body + b"\n" + row(2).body + b"\n"


def test_rotates_by_size_and_keeps_so_many(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonlFile(f"jsonl:{path}?max_mb=0.0008&keep=2", setting())
    sink.open()
    for sequence in range(1, 6):
        sink.deliver([row(sequence)], lambda message: None)
    sink.close()
    names = ["events.jsonl", "events.jsonl.1", "events.jsonl.2"]
    assert sorted(os.listdir(tmp_path)) == names
    assert [json.loads((tmp_path / name).read_text())["id"] for name in names] == [
        "5-started",
        "4-started",
        "3-started",
    ]


def test_a_file_that_is_moved_away_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonlFile(f"jsonl:{path}", setting())
    sink.open()
    sink.tend()
    path.rename(tmp_path / "moved")
    with pytest.raises(Unreachable, match="is gone"):
        sink.tend()
    path.touch()
    with pytest.raises(Unreachable, match="replaced"):
        sink.tend()
    sink.close()


def test_a_place_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="cannot write"):
        JsonlFile(f"jsonl:{tmp_path}", setting()).open()
    full = JsonlFile("jsonl:/dev/full", setting())
    full.open()
    with pytest.raises(Unreachable, match="/dev/full"):
        full.deliver([row(1)], lambda message: None)
    full.close()
