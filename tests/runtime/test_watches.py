from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from schemas import cleaned

from edgeclip.errors import DataError
from edgeclip.events.deliveries.homeassistant import slug
from edgeclip.region import Region
from edgeclip.runtime.thresholds import Thresholds, Tuned, read_thresholds, thresholds_path, write_thresholds
from edgeclip.runtime.watches import WatchFile, load_watches, usual_leave, watches_schema
from edgeclip.types import Label

DOCS = Path(__file__).parents[2] / "docs"


def read(tmp_path: Path, text: str) -> WatchFile:
    path = tmp_path / "watches.yaml"
    path.write_text(text)
    return load_watches(path)


def test_a_text_or_a_list_of_them_and_what_is_left_away(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        "labels: [dog, {delivery: [a parcel, a van]}]\nwatches:\n"
        "  - {name: a cat}\n  - {name: door, prompts: an open door, negatives: [a closed door, a wall]}\n",
    )
    assert file.exclusive == (Label("dog"), Label("delivery", ("a parcel", "a van")))
    cat, door = file.watches
    assert (cat.positive, cat.negative, cat.region, cat.enter) == ((), (), None, None)
    assert (door.positive, door.negative) == (("an open door",), ("a closed door", "a wall"))
    assert file.missed == 0.05
    assert cat.sees("anything")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("watches:\n  - name: a\n    prompt: x\n", 3, "watches.0.prompt"),
        ("watches:\n  - name: a\n    enter: 1.5\n", 3, "watches.0.enter"),
        ("watches:\n  - name: a\n    region: {box: [0, 0, 1]}\n", 3, "watches.0.region.box"),
        ("watches:\n  - name: a\n    region: {box: [0.5, 0, 0.2, 1]}\n", 3, "watches.0.region"),
        ("watches:\n  - name: a\n    region: {polygon: [[0, 0], [1, 1]]}\n", 3, "watches.0.region.polygon"),
        ("watches:\n  - name: a\n    region: {}\n", 3, "watches.0.region"),
        ("watches:\n  - name: a\n  - prompts: x\n", 3, "`name` is missing"),
        ("watches:\n  - name: a\n    enter: 0.5\n    leave: 0.6\n", 2, "below `enter`"),
        ("watches:\n  - name: a\n    leave: 0.6\n", 2, "without `enter`"),
        ("watches:\n  - name: a\n    prompts: [x, X]\n", 2, "twice"),
        ("watches:\n  - name: a\n    prompts: x\n    negatives: x\n", 2, "negatives"),
        ("watches:\n  - name: a\n  - name: A\n", 3, "'A' twice: line 2 does"),
        ("watches:\n  - name: caf\u00e9\n  - name: cafe\u0301\n", 3, "twice: line 2 does"),
        ("labels:\n  - a\n  - {A: x}\n", 3, "'A' twice: line 2 does"),
        (
            "watches:\n  - name: door open\n  - name: b\n  - name: Door_open\n",
            4,
            "'door open' of line 2 would have one MQTT",
        ),
        ("labels:\n  - a\n  - Unknown\n", 3, "'Unknown' is no label"),
        ("labels:\n  - a\n  - {unknown: [x, y]}\n", 3, "'unknown' is no label"),
        ("labels: [{a: x, b: y}]\n", 1, "one `name"),
        ("watches: [{name: a, prompts: ' '}]\n", 1, "blank"),
        ("unknown: 0.1\n", 1, "what to look for"),
        ('watches: [{name: "a\\u001b[2J"}]\n', 1, "control character"),
    ],
)
def test_what_is_wrong_is_told_with_file_line_and_key(tmp_path: Path, text: str, line: int, key: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, text)
    assert f"watches.yaml:{line}:" in caught.value.message
    assert key in caught.value.message
    assert caught.value.hint


ALIKE = [" _", "aA", "éÉ", "ßẞ", "-.", "s\u017f", "bc"]  # letter by letter, one of two


@hypothesis.given(st.lists(st.tuples(st.sampled_from(ALIKE), st.booleans(), st.booleans()), min_size=1, max_size=3))
def test_watches_that_are_taken_have_topics_of_their_own(
    tmp_path_factory: pytest.TempPathFactory, letters: list[tuple[str, bool, bool]]
) -> None:
    one, other = ("".join(letter[0][letter[which]] for letter in letters) for which in (1, 2))
    text = json.dumps({"watches": [{"name": one}, {"name": other}]})
    with contextlib.suppress(DataError):
        read(tmp_path_factory.getbasetemp(), text)
        assert slug(one) != slug(other)


def test_the_published_schema_is_the_structs_own() -> None:
    assert cleaned((DOCS / "watches.schema.json").read_text()) == cleaned(json.dumps(watches_schema()))


def test_unknown_is_a_rate_or_off(tmp_path: Path) -> None:
    for given, expected in (("true", 0.05), ("false", None), ("0.1", 0.1)):
        assert read(tmp_path, f"labels: [a]\nunknown: {given}\n").missed == expected


def test_the_digest_changes_with_what_decides_how_often_a_watch_begins(tmp_path: Path) -> None:
    plain = "watches: [{name: a, prompts: x%s}]\n%s"
    same = [("", ""), (", enter: 0.7", ""), (", source: cam*", "")]
    others = [
        (", negatives: y", ""),
        (", region: {box: [0, 0, 1, 0.5]}", ""),
        (", smoothing_s: 2", ""),
        (", dwell_s: 2", ""),
        ("", "background: [z]"),
    ]
    files = [read(tmp_path, plain % pair) for pair in same + others]
    digests = [file.digest(file.watches[0]) for file in files]
    assert len(set(digests[: len(same)])) == 1
    assert len(set(digests)) == 1 + len(others)


def test_bounds_of_a_polygon() -> None:
    assert Region(polygon=((0.1, 0.5), (0.9, 0.2), (0.4, 0.7))).bounds == (0.1, 0.2, 0.9, 0.7)


def test_the_usual_leave_is_one_log_odd_below() -> None:
    for enter in (0.2, 0.8, 0.999):
        leave = usual_leave(enter)
        assert math.log(enter / (1 - enter)) - math.log(leave / (1 - leave)) == pytest.approx(1.0)


def test_thresholds_lie_beside_the_file_and_come_back_as_written(tmp_path: Path) -> None:
    path = thresholds_path(tmp_path / "watches.yaml")
    assert path.name == "watches.thresholds.json"
    assert read_thresholds(path) is None
    thresholds = Thresholds("sha256:0", {"a": Tuned("sha256:1", 0.9, 0.6, {"frames": 100})})
    write_thresholds(path, thresholds)
    assert read_thresholds(path) == thresholds
    path.write_text(path.read_text().replace("0.6", "0.95"))
    with pytest.raises(DataError, match=r"thresholds\.json.*leave"):
        read_thresholds(path)
