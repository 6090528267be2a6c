from __future__ import annotations

import io
from dataclasses import replace

from edgeclip.runtime.sinks.lines import Lines
from edgeclip.types import Change, Sink, WatchState
from sinks.picture import decision, frame, setting

SECOND_NS = 1_000_000_000


def lines(seen: list[tuple[float, str]], *, live: bool, fps: float | None = 10.0) -> list[str]:
    """What is written for (second, best label) decisions."""
    stdout = io.StringIO()
    sink = Lines("", setting(stdout, live=live, fps=fps))
    sink.open()
    for index, (second, best) in enumerate(seen):
        one = frame(index, int(second * SECOND_NS))
        sink.write(decision(one, {best: 0.9, "other": 0.1}), one)
    sink.close()
    return stdout.getvalue().splitlines()


def test_a_line_reads_well() -> None:
    assert lines([(0, "cat")], live=True) == [
        "2026-08-01T12:00:00.123Z  demo  frame 0  cat 0.90  (other 0.10)  [19.8 fps, age 41 ms, 3 dropped]"
    ]


def test_only_changes_are_written() -> None:
    written = lines([(0, "cat"), (2, "cat"), (4, "dog"), (6, "dog")], live=True)
    assert [line.split()[4] for line in written] == ["cat", "dog"]


def test_a_flickering_camera_writes_once_a_second_and_a_film_every_change() -> None:
    flicker = [(number / 10, "cat" if number % 2 else "dog") for number in range(31)]
    assert len(lines(flicker, live=True)) <= 4
    assert len(lines(flicker, live=False)) == 31


def test_a_sign_of_life_every_minute() -> None:
    assert len(lines([(second, "cat") for second in range(181)], live=True)) == 4


def test_single_pictures_get_a_line_each() -> None:
    assert len(lines([(0, "cat"), (0.1, "cat"), (0.2, "cat")], live=False, fps=None)) == 3


def written(sink: Sink, stdout: io.StringIO, **more: object) -> list[str]:
    one = frame(7)
    sink.write(replace(decision(one), **more), one)  # type: ignore[arg-type]
    return stdout.getvalue().splitlines()


def test_a_watch_that_begins_or_ends_has_a_line_of_its_own_also_at_the_very_end() -> None:
    stdout = io.StringIO()
    sink = Lines("", setting(stdout, live=True))
    began = Change("door open", True, 5, 6, 0.93, 0.95, 0.8)
    ended = replace(began, on=False, reason="source ended")
    first = written(sink, stdout, changes=(began,))
    assert first[0].endswith("demo  frame 7  door open begins, 0.93 (at 0.80)")
    assert "cat 0.90" in first[1]
    assert written(sink, stdout, changes=(ended,), closing=True)[2:] == [
        "2026-08-01T12:00:00.123Z  demo  frame 7  door open ends: source ended, peak 0.95"
    ]


def test_unknown_comes_first_and_watches_alone_are_told_too() -> None:
    stdout = io.StringIO()
    assert "frame 7  unknown 0.75  (cat 0.90, dog 0.10)" in written(Lines("", setting(stdout)), stdout, unknown=0.75)[0]
    stdout = io.StringIO()
    states = (WatchState("door", 0.9, 0.8, True), WatchState("yard", 0.1, 0.8, False))
    line = written(Lines("", setting(stdout)), stdout, names=(), order=(), watches=states)[0]
    assert "frame 7  door 0.90 on, yard 0.10  [" in line


def test_a_picture_of_a_folder_is_called_by_its_own_name() -> None:
    stdout = io.StringIO()
    line = written(Lines("", setting(stdout, fps=None)), stdout, picture="shots/7.jpg")[0]
    assert line.split("  ")[1] == "shots/7.jpg"
