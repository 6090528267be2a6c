from __future__ import annotations

import contextlib
import io

import pytest

from edgeclip.progress import Bars, Lines, Progress, Silent, duration, progress_for


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(progress: Progress) -> None:
    progress.stage("export", 3)
    for _ in range(3):
        progress.advance()
    progress.note("cosine 0.9999")
    progress.stage("quantize")
    progress.advance()
    progress.done()
    progress.done()


def test_lines_name_every_stage_once_and_keep_notes() -> None:
    stream = io.StringIO()
    work(Lines(stream))
    said = stream.getvalue().splitlines()
    assert said[:2] == ["export: started, 3 steps", "export: cosine 0.9999"]
    assert [line.split(" in ")[0] for line in said[2:]] == ["export: done", "quantize: started", "quantize: done"]


def test_lines_come_every_few_seconds_with_what_is_left() -> None:
    stream = io.StringIO()
    lines = Lines(stream, every_s=0.0)
    lines.stage("train", 4)
    lines.advance(2)
    assert stream.getvalue().splitlines()[-1].startswith("train: 2/4 (50 %), ")
    quiet = io.StringIO()
    lines = Lines(quiet, every_s=3600)
    lines.stage("train", 1000)
    for _ in range(1000):
        lines.advance()
    assert len(quiet.getvalue().splitlines()) == 1


def test_a_failed_stage_is_not_called_done() -> None:
    stream = io.StringIO()
    with contextlib.suppress(ValueError), Lines(stream) as lines:
        lines.stage("export")
        raise ValueError
    assert stream.getvalue() == "export: started\n"


def test_bars_on_a_terminal_lines_elsewhere() -> None:
    assert isinstance(progress_for(io.StringIO()), Lines)
    terminal = Terminal()
    bars = progress_for(terminal)
    assert isinstance(bars, Bars)
    with bars:
        work(bars)
    shown = terminal.getvalue()
    assert "export" in shown
    assert "3/3" in shown
    assert "cosine 0.9999" in shown


def test_silent_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    work(Silent())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (59.94, "59.9 s"), (245, "4 min 05 s"), (7620, "2 h 07 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("columns", "bar"), [(40, False), (100, True)])
def test_figures_are_whole_on_a_narrow_terminal(columns: int, bar: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with Bars(terminal) as bars:
        bars.stage("calibrate", 256)
        bars.advance(256)
        bars.done()
    last = [line for line in terminal.getvalue().splitlines() if "256/256" in line][-1]
    assert "…" not in last
    assert "0:00:0" in last
    assert ("━" in last) == bar
