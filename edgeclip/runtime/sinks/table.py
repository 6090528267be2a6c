"""The live table on a terminal: one bar per watch and label, in place.

The frame loop only leaves its newest decision here; rich draws it REFRESH_HZ times a second on its own thread.
"""

from __future__ import annotations

import os
import sys

from rich.bar import Bar
from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from edgeclip.runtime.sinks.setting import Setting
from edgeclip.types import UNKNOWN, Decision, Frame

REFRESH_HZ = 12
NAME_WIDTH = 32
STRONG = ("green", "red", "yellow")  # the best label, a watch that holds, `unknown`


class Table:
    def __init__(self, target: str, setting: Setting) -> None:
        self._console = Console(file=setting.stdout)
        self._footer = f"{setting.bundle}   {setting.engine}"
        self._latest: dict[str, Decision] = {}
        self._stdout = setting.stdout
        if self._console.is_terminal:
            self._console.size = ConsoleDimensions(*os.get_terminal_size(setting.stdout.fileno()))
        self._size = self._console.size
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=REFRESH_HZ,
            redirect_stdout=False,
            redirect_stderr=sys.stderr.isatty(),  # notices appear above the table instead of through it
            vertical_overflow="crop",
        )

    def open(self) -> None:
        self._live.start()

    def write(self, decision: Decision, frame: Frame) -> None:
        if not decision.closing:
            self._latest[decision.source] = decision

    def close(self) -> None:
        self._live.stop()

    def _draw(self) -> RenderableType:
        if self._console.is_terminal:
            self._follow_size()
        decisions = list(self._latest.values())
        if not decisions:
            return Text("waiting for the first frame", style="dim")
        room = max((self._size.height - 1) // len(decisions) - 5, 1)
        return Group(*(self._panel(decision, room) for decision in decisions), self._below())

    def _follow_size(self) -> None:
        """A resized terminal has re-wrapped what was drawn: start from a clean screen."""
        size = ConsoleDimensions(*os.get_terminal_size(self._stdout.fileno()))
        if size != self._size:
            self._console.size = self._size = size
            self._console.clear()

    def _panel(self, decision: Decision, room: int) -> Panel:
        grid = Grid.grid(expand=True, padding=(0, 1))
        grid.add_column(no_wrap=True, overflow="ellipsis", max_width=NAME_WIDTH, ratio=2)
        grid.add_column(ratio=3)
        grid.add_column(justify="right", no_wrap=True, width=5)
        rows = [(watch.name, watch.probability, "red" if watch.on else "magenta") for watch in decision.watches]
        if decision.is_unknown:
            rows.append((UNKNOWN, decision.unknown, "yellow"))
        labels = [(decision.names[index], float(decision.scores[index])) for index in decision.order]
        best = "" if decision.is_unknown else decision.label
        rows += [(name, score, "green" if name == best else "blue") for name, score in labels]
        for name, score, colour in rows[:room]:
            strong = colour in STRONG
            grid.add_row(
                Text(name, style="bold" if strong else ""),
                Bar(1.0, 0.0, score, color=colour, bgcolor="grey15"),
                Text(f"{score:.3f}", style=f"bold {colour}" if strong else ""),
            )
        content = Group(grid, Text(), _pace(decision))
        return Panel(
            content,
            title=Text(decision.picture or decision.source, style="bold"),
            title_align="left",
            border_style="bright_black",
        )

    def _below(self) -> Text:
        return Text(self._footer, style="dim", no_wrap=True, overflow="ellipsis")


def _pace(decision: Decision) -> Text:
    figures = [
        (f"{decision.fps:5.1f}", " fps"),
        (f"   age {decision.age_ns / 1e6:4.0f}", " ms"),
        (f"   {decision.drops}", " dropped"),
        (f"   frame {decision.frame_index}", ""),
    ]
    parts = ((part, style) for figure, unit in figures for part, style in ((figure, ""), (unit, "dim")))
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")
