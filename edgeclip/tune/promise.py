"""A stated rate of false alarms: `1/day`, as it is typed, as a number and as words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeclip.errors import UsageError

DAY_S = 86_400.0
UNITS_S = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": DAY_S, "week": 7 * DAY_S, "month": 30 * DAY_S}
SHORT = {"s": "second", "min": "minute", "h": "hour", "d": "day", "w": "week"}
OFFERS = ("1/month", "1/week", "2/week", "1/day", "2/day", "6/day", "1/hour", "6/hour", "1/minute", "6/minute")


@dataclass(frozen=True, slots=True)
class Promise:
    """At most so many false alarms of each watch. text: as typed."""

    text: str
    per_s: float

    @property
    def per_day(self) -> float:
        return self.per_s * DAY_S


def parse_promise(text: str) -> Promise:
    """`1/day`, `2/week`, `1/6 hours`, `3/h`. Raises UsageError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)?\s*([a-z]+?)s?\s*", text.lower())
    if match is None and re.fullmatch(r"\s*\d+(?:\.\d+)?\s*/\s*s\s*", text.lower()):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*()(s)\s*", text.lower())
    unit = SHORT.get(match[3], match[3]) if match else ""
    if match is None or unit not in UNITS_S or float(match[1]) <= 0.0 or (match[2] and float(match[2]) <= 0.0):
        raise UsageError(f"--false-alarms {text}: not a rate", "say it as 1/day, 2/week, 1/hour or 1/6h")
    return Promise(text.strip(), float(match[1]) / (float(match[2] or 1) * UNITS_S[unit]))


def strictest(period_s: float) -> str:
    """The strictest usual rate whose period is at most period_s; of none, the loosest."""
    return next((text for text in OFFERS if 1.0 / parse_promise(text).per_s <= period_s), OFFERS[-1])


def said(seconds: float) -> str:
    """A length of time in the unit that suits it, two digits: 45 s, 11 min, 2.4 h, 3.5 days."""
    for unit, length_s, until in (("s", 1.0, 90.0), ("min", 60.0, 5400.0), ("h", 3600.0, 2 * DAY_S)):
        if seconds < until:
            return f"{_digits(seconds / length_s)} {unit}"
    return f"{_digits(seconds / DAY_S)} days"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"
