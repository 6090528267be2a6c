from __future__ import annotations

import pytest

from edgeclip.errors import UsageError
from edgeclip.tune.promise import parse_promise, said, strictest

DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("text", "per_day"),
    [
        ("1/day", 1.0),
        ("2/week", 2 / 7),
        ("1/hour", 24.0),
        ("3 / 2 days", 1.5),
        ("1/6h", 4.0),
        ("0.5/d", 0.5),
        ("1/s", DAY_S),
    ],
)
def test_a_rate_is_read_as_it_is_said(text: str, per_day: float) -> None:
    assert parse_promise(text).per_day == pytest.approx(per_day)


@pytest.mark.parametrize("text", ["1", "day", "0/day", "1/fortnight", "1/0h", "-1/day", ""])
def test_what_is_no_rate_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_promise(text)
    assert "1/day" in refused.value.hint


def test_lengths_of_time_are_said_in_their_unit() -> None:
    assert [said(s) for s in (8.8, 660.0, 8640.0, 86_400.0, 604_800.0)] == [
        "8.8 s",
        "11 min",
        "2.4 h",
        "24 h",
        "7 days",
    ]


def test_the_offer_is_the_strictest_rate_that_the_period_allows() -> None:
    assert strictest(110 * 60.0) == "1/hour"
    assert strictest(25 * 3600.0) == "1/day"
    assert strictest(1.0) == "6/minute"
