from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from events.made import row, setting

from edgeclip.events.deliveries.command import Command
from edgeclip.events.delivery import Message, Rejected, Unreachable


def program(tmp_path: Path, text: str) -> str:
    path = tmp_path / "notify"
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{text}\n")
    path.chmod(0o755)
    return f"command:{path} '--to=a b' $HOME"


def test_gets_its_words_as_they_are_and_the_message_on_standard_input(tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = f"open({str(out)!r}, 'w').write(repr(sys.argv[1:]) + sys.stdin.read() + os.environ['EDGECLIP_EVENT_ID'])"
    done: list[Message] = []
    Command(program(tmp_path, text), setting()).deliver([row(1)], done.append)
    assert out.read_text() == "['--to=a b', '$HOME']" + row(1).body.decode() + "1-started"
    assert done == [row(1)]


def test_a_failure_is_tried_again_and_65_is_not(tmp_path: Path) -> None:
    done: list[Message] = []
    with pytest.raises(Unreachable, match="ended with 3: no door"):
        Command(program(tmp_path, "sys.stdin.read(); sys.stderr.write('no door'); sys.exit(3)"), setting()).deliver(
            [row(1)], done.append
        )
    with pytest.raises(Rejected) as caught:
        Command(program(tmp_path, "sys.exit(65)"), setting()).deliver([row(7)], done.append)
    assert caught.value.rejected == row(7)
    assert done == []


def test_one_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    begin_s = time.monotonic()
    with pytest.raises(Unreachable, match="took longer"):
        Command(program(tmp_path, "os.fork(); time.sleep(60)"), setting(), timeout_s=0.5).deliver([row(1)], print)
    assert time.monotonic() - begin_s < 20


def test_what_the_program_leaves_running_holds_up_nothing(tmp_path: Path) -> None:
    text = "os.fork() or (os.setsid(), time.sleep(20))"
    done: list[Message] = []
    begin_s = time.monotonic()
    Command(program(tmp_path, text), setting(), timeout_s=15.0).deliver([row(1)], done.append)
    assert time.monotonic() - begin_s < 12
    assert done == [row(1)]
