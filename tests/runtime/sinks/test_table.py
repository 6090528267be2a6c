from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import IO

import pytest

from edgeclip.runtime.sinks.table import Table
from edgeclip.types import WatchState
from sinks.picture import decision, frame, setting


class Terminal:
    """The far end of a pseudo terminal: what was drawn, as text with its control codes."""

    def __init__(self) -> None:
        self._far, near = pty.openpty()
        self.resize(24, 80)
        self.stream: IO[str] = os.fdopen(near, "w", encoding="utf-8")
        self._drawn = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._far, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, text: str) -> str:
        deadline_s = time.monotonic() + 10
        while text not in self.drawn and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert text in self.drawn
        return self.drawn

    def all_drawn(self) -> str:
        """Nothing can be drawn after that."""
        self.stream.close()
        self._reader.join(10)
        return self.drawn

    @property
    def drawn(self) -> str:
        return self._drawn.decode("utf-8", "ignore")

    def _read(self) -> None:
        while True:
            try:
                block = os.read(self._far, 65536)
            except OSError:  # the near end was closed
                return
            self._drawn += block

    def close(self) -> None:
        self.stream.close()
        self._reader.join(5)
        os.close(self._far)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    yield terminal
    terminal.close()


def test_it_shows_labels_figures_and_what_is_running(terminal: Terminal) -> None:
    sink = Table("", setting(terminal.stream, live=True))
    sink.open()
    one = frame(41)
    sink.write(decision(one, {"cat": 0.9, "Käse": 0.1}), one)
    sink.close()
    drawn = _plain(terminal.all_drawn())
    for text in (
        "demo",
        "cat",
        "0.900",
        "Käse",
        "0.100",
        "19.8 fps",
        "age   41 ms",
        "3 dropped",
        "frame 41",
        "nano",
        "LiteRT",
    ):
        assert text in drawn


def test_many_decisions_are_drawn_a_few_times_a_second_and_the_last_one_stays(terminal: Terminal) -> None:
    sink = Table("", setting(terminal.stream, live=True))
    sink.open()
    began_s = time.monotonic()
    for index in range(400):
        one = frame(index)
        sink.write(decision(one), one)
        time.sleep(0.001)
    elapsed_s = time.monotonic() - began_s
    sink.close()
    drawn = _plain(terminal.all_drawn())
    assert "frame 399" in drawn
    assert drawn.count("frame ") <= 15 * elapsed_s + 3


def test_a_resized_terminal_is_redrawn_from_a_clean_screen_in_its_width(terminal: Terminal) -> None:
    sink = Table("", setting(terminal.stream, live=True))
    sink.open()
    one = frame()
    sink.write(decision(one, {"a label as long as a line of a book": 1.0}), one)
    terminal.wait_for("╮")
    terminal.resize(20, 44)
    terminal.wait_for("\x1b[2J")
    sink.close()
    after = _plain(terminal.all_drawn().partition("\x1b[2J")[2])
    assert max(map(len, after.splitlines())) <= 44


def test_it_fits_a_terminal_lower_than_its_labels(terminal: Terminal) -> None:
    terminal.resize(10, 60)
    sink = Table("", setting(terminal.stream, live=True))
    sink.open()
    one = frame()
    sink.write(decision(one, {f"label {number}": 0.05 for number in range(20)}, top=20), one)
    sink.close()
    drawn = _plain(terminal.all_drawn())
    assert "label 0" in drawn
    assert "label 9" not in drawn
    assert "dropped" in drawn


def _plain(drawn: str) -> str:
    """Without control codes; lines end where the cursor leaves them."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[^\[]", "", drawn)


def test_watches_come_first_then_unknown_then_labels(terminal: Terminal) -> None:
    sink = Table("", setting(terminal.stream, live=True))
    sink.open()
    one = frame()
    watches = (WatchState("door open", 0.9, 0.8, True), WatchState("yard", 0.1, 0.8, False))
    sink.write(replace(decision(one), watches=watches, unknown=0.75), one)
    sink.close()
    drawn = _plain(terminal.all_drawn())
    places = [drawn.rindex(name) for name in ("door open", "yard", "unknown", "cat", "dog")]
    assert places == sorted(places)
    assert "0.750" in drawn
