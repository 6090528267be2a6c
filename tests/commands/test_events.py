from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path

import pytest
from commandline import Captured, complaint
from events.made import both

from edgeclip.cli import main
from edgeclip.errors import BAD_DATA, OK, UNAVAILABLE
from edgeclip.events.outbox import OUTBOX, Outbox

pytestmark = pytest.mark.usefixtures("bare_environment")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An outbox with four messages: row 1 to 4."""
    with contextlib.closing(Outbox(tmp_path / OUTBOX)) as outbox:
        outbox.add([*both("x"), *both("y")], ["jsonl:a"])
        outbox.mark("jsonl:a", [1], "dead", "HTTP 400")
    return tmp_path / OUTBOX


def change(path: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(statement, values)


def events(action: str, path: Path, *options: str) -> int:
    return main(["events", action, *options, "--state", str(path.parent)])


def test_list_dead_show_and_retry(path: Path, capsys: Captured) -> None:
    assert events("list", path) == OK
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in said[::2]] == ["x-started", "x-ended", "y-started", "y-ended"]
    assert said[1].split() == ["dead", "jsonl:a", "1", "attempts:", "HTTP", "400"]
    assert events("list", path, "--limit", "1" + "0" * 30, "--json") == OK
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert events("show", path, "y", "--json") == OK
    assert [json.loads(line)["message"]["id"] for line in capsys.readouterr().out.splitlines()] == [
        "y-started", "y-ended",
    ]  # fmt: skip
    assert events("dead", path) == OK
    assert "x-started" in capsys.readouterr().out
    assert events("retry", path, "x") == OK
    assert "1 deliveries" in capsys.readouterr().out
    assert events("dead", path) == OK
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("body", [b"no JSON", b'{"specversion": "9"}', b"\xff\xfe", 7, "text", b""])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_row_that_cannot_be_read_is_named_and_the_rest_listed(
    path: Path, body: object, options: tuple[str, ...], capsys: Captured
) -> None:
    change(path, "UPDATE message SET body = ? WHERE sequence = 2", body)
    assert events("list", path, *options) == BAD_DATA
    said = capsys.readouterr()
    error, fix = said.err.splitlines()
    assert error.startswith("error: row 2 of the outbox, x-ended, is no message of this version: ")
    assert fix.startswith("  fix: ")
    assert "x-started" in said.out
    assert "y-ended" in said.out
    assert "x-ended" not in said.out
    assert events("show", path, "x-ended", *options) == BAD_DATA
    assert "row 2" in complaint(capsys)
    assert events("show", path, "y", *options) == OK


def test_the_exit_code_is_documented(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        main(["events", "list", "--help"])
    assert f"exit code {BAD_DATA}" in capsys.readouterr().out


def test_a_damaged_outbox_is_said_and_left_to_the_run_that_uses_it(path: Path, capsys: Captured) -> None:
    path.write_bytes(b"no database at all, and longer than a header of one hundred bytes" * 9)
    for action in ("list", "dead", "retry"):
        assert events(action, path) == BAD_DATA
        assert f"the outbox {path} is damaged" in complaint(capsys)
    assert path.read_bytes().startswith(b"no database at all")
    assert sorted(os.listdir(path.parent)) == [OUTBOX]


def test_an_outbox_without_room_is_unavailable_in_one_message(path: Path, capsys: Captured) -> None:
    change(path, "CREATE TRIGGER full BEFORE UPDATE ON delivery BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
    assert events("retry", path) == UNAVAILABLE
    assert f"the outbox {path}: disk is full" in complaint(capsys)


def test_an_outbox_that_stays_locked_is_unavailable_in_one_message(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr("edgeclip.events.outbox.BUSY_S", 0.05)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert events("retry", path) == UNAVAILABLE
        assert "is locked" in complaint(capsys)
        assert events("list", path) == OK  # reading waits for nobody


def test_what_is_not_there_is_said(path: Path, capsys: Captured) -> None:
    assert events("show", path, "none") == BAD_DATA
    assert "no event or message none" in complaint(capsys)
