"""Plain text for logs and pipes: what a person wants to read the next morning.

A line when a watch begins or ends, one when the best label changes, and one every minute to show that it is alive. A
live source writes at most one label a second, so that a flickering decision cannot fill a disk; films write every
change, however fast they play, and single pictures a line each.
"""

from __future__ import annotations

from edgeclip.runtime.sinks.jsonl import utc
from edgeclip.runtime.sinks.setting import Setting
from edgeclip.types import UNKNOWN, Change, Decision, Frame, WatchState

APART_NS = 1_000_000_000
ALIVE_NS = 60_000_000_000


class Lines:
    def __init__(self, target: str, setting: Setting) -> None:
        self._stream = setting.stdout
        self._apart_ns = APART_NS if setting.live else 0
        self._every = not setting.live and setting.fps is None
        self._last: dict[str, tuple[str, int]] = {}  # source -> label, when it was written

    def open(self) -> None:
        return

    def write(self, decision: Decision, frame: Frame) -> None:
        for change in decision.changes:
            self._stream.write(change_text(decision, change))
        if decision.changes:
            self._stream.flush()
        if decision.closing:
            return
        label = decision.label
        now_ns = decision.captured_ns + decision.age_ns
        previous, written_ns = self._last.get(decision.source, ("", now_ns - ALIVE_NS))
        since_ns = now_ns - written_ns
        changed = label != previous and since_ns >= self._apart_ns
        if changed or self._every or since_ns >= ALIVE_NS:
            self._last[decision.source] = (label, now_ns)
            self._stream.write(to_text(decision))
            self._stream.flush()

    def close(self) -> None:
        return


def to_text(decision: Decision) -> str:
    shown = [f"{decision.names[index]} {decision.scores[index]:.2f}" for index in decision.order]
    if decision.is_unknown:
        shown.insert(0, f"{UNKNOWN} {decision.unknown:.2f}")
    best, *others = shown or [", ".join(_watch_text(watch) for watch in decision.watches) or "nothing to look for"]
    rest = f"  ({', '.join(others)})" if others else ""
    fps = f"{decision.fps:.1f} fps, " if decision.fps else ""
    pace = f"{fps}age {decision.age_ns / 1e6:.0f} ms, {decision.drops} dropped"
    return f"{_where(decision)}  {best}{rest}  [{pace}]\n"


def change_text(decision: Decision, change: Change) -> str:
    if change.on:
        what = f"begins, {change.probability:.2f} (at {change.enter:.2f})"
    else:
        what = f"ends: {change.reason}, peak {change.peak:.2f}"
    return f"{_where(decision)}  {change.watch} {what}\n"


def _where(decision: Decision) -> str:
    return f"{utc(decision.wall_ns)}  {decision.picture or decision.source}  frame {decision.frame_index}"


def _watch_text(watch: WatchState) -> str:
    return f"{watch.name} {watch.probability:.2f}{' on' if watch.on else ''}"
