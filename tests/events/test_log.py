"""All of it together: what a run writes, and what the next one finds."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import pytest

from edgeclip.bundle import Bundle
from edgeclip.cli import main
from edgeclip.errors import ConfigError, UsageError
from edgeclip.events.log import EventLog, Options
from edgeclip.events.media import Limits
from events.made import change, decision, frame, until


def log(tiny: Bundle, folder: Path, *uris: str, media: bool = False) -> EventLog:
    state = folder / "state"
    state.mkdir(exist_ok=True)
    options = Options(media=Limits() if media else None)
    return EventLog(uris or [f"jsonl:{folder / 'events.jsonl'}"], tiny, state, options, lambda text: None)


def lines(folder: Path) -> list[dict[str, object]]:
    path = folder / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_what_a_run_saw_is_delivered_when_it_ends(tiny: Bundle, tmp_path: Path) -> None:
    opened = log(tiny, tmp_path, media=True)
    opened.open()
    for index in range(4):
        one = frame(index, index * 10**9)
        changes = {1: (change(True, one),), 2: (change(False, one),)}.get(index, ())
        opened.write(decision(one, *changes, on=index == 1), one)
    opened.close()
    begun, ended = lines(tmp_path)
    assert begun["type"] == "io.edgeclip.watch.started"
    assert begun["data"]["bundle"]["name"] == "tiny"  # type: ignore[index]
    assert begun["data"]["space"] == tiny.manifest.space  # type: ignore[index]
    assert Path(ended["data"]["snapshot"]).is_file()  # type: ignore[index]
    assert Path(ended["data"]["clip"]).is_file()  # type: ignore[index]


def test_an_event_that_was_cut_off_ends_at_the_next_start(tiny: Bundle, tmp_path: Path) -> None:
    first = log(tiny, tmp_path)
    first.open()
    one = frame(1)
    first.write(decision(one, change(True, one), on=True), one)
    first.close()  # without its end, as after kill -9
    second = log(tiny, tmp_path)
    second.open()
    until(lambda: len(lines(tmp_path)) == 2)
    second.close()
    begun, ended = lines(tmp_path)
    assert ended["data"]["event"] == begun["data"]["event"]  # type: ignore[index]
    assert ended["data"]["reason"] == "interrupted"  # type: ignore[index]
    assert [line["data"]["sequence"] for line in lines(tmp_path)] == [1, 2]  # type: ignore[index]
    third = log(tiny, tmp_path)
    third.open()
    third.close()
    assert len(lines(tmp_path)) == 2


def test_a_second_run_in_the_same_state_directory_is_refused(tiny: Bundle, tmp_path: Path) -> None:
    first = log(tiny, tmp_path)
    first.open()
    with pytest.raises(ConfigError, match="another run"):
        log(tiny, tmp_path).open()
    first.close()
    again = log(tiny, tmp_path)
    again.open()
    again.close()


def test_a_sink_given_twice_is_a_mistake(tiny: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="given twice"):
        log(tiny, tmp_path, "mqtt://host/x", "mqtt://host/x?version=5")


def test_a_sink_that_is_away_holds_up_neither_the_others_nor_the_end(tiny: Bundle, tmp_path: Path) -> None:
    opened = log(tiny, tmp_path, "http://127.0.0.1:9/x", f"jsonl:{tmp_path / 'events.jsonl'}")
    opened.open()
    one = frame(1)
    opened.write(decision(one, change(True, one), on=True), one)
    until(lambda: len(lines(tmp_path)) == 1)
    opened.close()


def test_the_command_line_lists_shows_and_retries(
    tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing = tmp_path / "refuse"
    refusing.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no room' if sys.stdin.read() == '' else 65)\n")
    refusing.chmod(0o755)
    opened = log(tiny, tmp_path, f"command:{refusing}")
    opened.open()
    one = frame(1)
    opened.write(decision(one, change(True, one), on=True), one)
    until(lambda: opened.couriers[0].dead == 1)
    opened.close()
    state = ["--state", str(tmp_path / "state")]
    assert main(["events", "dead", "--json", *state]) == 0
    (row,) = capsys.readouterr().out.splitlines()
    found = json.loads(row)
    assert found["deliveries"][0]["state"] == "dead"
    assert main(["events", "list", *state]) == 0
    assert "door open" in capsys.readouterr().out
    assert main(["events", "show", found["message"]["data"]["event"], *state]) == 0
    assert '"specversion": "1.0"' in capsys.readouterr().out
    assert main(["events", "retry", *state]) == 0
    assert capsys.readouterr().out.startswith("1 deliveries")
    assert main(["events", "show", "nothing", *state]) == 65
    assert main(["events", "list", "--state", str(tmp_path)]) == 78


def test_a_log_that_cannot_be_opened_leaves_its_place_to_the_next(tiny: Bundle, tmp_path: Path) -> None:
    bad = log(tiny, tmp_path)
    outbox = tmp_path / "state" / "outbox.sqlite"
    outbox.mkdir()
    with pytest.raises(ConfigError, match="cannot open the outbox"):
        bad.open()
    outbox.rmdir()
    good = log(tiny, tmp_path)
    good.open()
    good.close()


def test_what_another_version_wrote_keeps_no_run_from_starting(tiny: Bundle, tmp_path: Path) -> None:
    first = log(tiny, tmp_path)
    first.open()
    one = frame(1)
    first.write(decision(one, change(True, one), on=True), one)
    first.close()
    with sqlite3.connect(tmp_path / "state" / "outbox.sqlite") as database:
        database.execute("UPDATE message SET body = '{}'")
    database.close()
    second = log(tiny, tmp_path)
    second.open()
    second.close()
