"""How much of what should raise a watch does, at its threshold: from clips and pictures of the real thing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeclip.errors import DataError, UsageError
from edgeclip.picture import is_picture_name
from edgeclip.runtime.watches import Watch
from edgeclip.tune.clusters import Values, alarm_levels
from edgeclip.tune.footage import Reader

STRETCH_S = 10.0  # of a clip that shows the thing: seen in it or not
NORMAL_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Recall:
    """found of n occurrences; low and high: Wilson's 95 % interval."""

    n: int
    found: int
    share: float
    low: float
    high: float


def read_positives(
    given: Sequence[str], watches: Sequence[Watch], reader: Reader, stop: Callable[[], bool]
) -> dict[str, Values]:
    """The highest level that each occurrence of a watch reaches, by the watch's name.

    given: WATCH=PATH, or PATH: a clip or pictures of the only watch, else a folder with one of these for each watch,
    of its name. Raises UsageError, DataError.
    """
    levels: dict[str, Values] = {}
    for watch, path in _places(given, watches):
        found = _pictures(watch, path, reader, stop) if _holds_pictures(path) else _clip(watch, path, reader, stop)
        levels[watch.name] = np.concatenate([levels.get(watch.name, np.empty(0)), found])
    return levels


def recall(levels: Values, enter: float) -> Recall:
    """How many of the occurrences [N], each by the log-odds that it reached, come up to `enter`."""
    found, n = int((levels >= enter).sum()), len(levels)
    low, high = wilson(found, n)
    return Recall(n, found, found / n if n else 0.0, low, high)


def wilson(found: int, n: int, z: float = NORMAL_95) -> tuple[float, float]:
    """The score interval of a share. Wilson, JASA 22 (1927), 209-212."""
    if not n:
        return 0.0, 1.0
    share, square = found / n, z * z
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _places(given: Sequence[str], watches: Sequence[Watch]) -> list[tuple[Watch, Path]]:
    named = {watch.name: watch for watch in watches}
    places: list[tuple[Watch, Path]] = []
    for text in given:
        name, sign, where = text.partition("=")
        if sign and name in named:
            places.append((named[name], Path(where)))
        elif len(watches) == 1:
            places.append((watches[0], Path(text)))
        else:
            inside = {item.stem.replace("_", " "): item for item in Path(text).iterdir()} if Path(text).is_dir() else {}
            known = [(watch, inside[watch.name]) for watch in watches if watch.name in inside]
            if not known:
                raise UsageError(
                    f"--positives {text}: nothing in it is named after a watch",
                    f"say which it shows: --positives '{watches[0].name}={text}'",
                )
            places += known
    for _, path in places:
        if not path.exists():
            raise DataError(f"{path} does not exist", "--positives takes clips, pictures and folders of them")
    return places


def _holds_pictures(path: Path) -> bool:
    names = [item.name for item in path.iterdir()] if path.is_dir() else [path.name]
    return any(is_picture_name(name) for name in names)


def _pictures(watch: Watch, path: Path, reader: Reader, stop: Callable[[], bool]) -> Values:
    """Each picture an occurrence that stays in view: what smoothing and dwell would come to."""
    return np.array(reader.stills(str(path), stop)[watch.name], np.float64)


def _clip(watch: Watch, path: Path, reader: Reader, stop: Callable[[], bool]) -> Values:
    """Each stretch of STRETCH_S an occurrence; a last one of less than half is no more."""
    peaks = []
    for piece in reader.read([str(path)], None, stop).pieces.get(watch.name, ()):
        levels = alarm_levels(piece.scores, piece.clock_s, watch.dwell_s, watch.agree)
        numbers = ((piece.clock_s - piece.clock_s[0]) // STRETCH_S).astype(np.int64)
        for number in np.unique(numbers):
            inside = numbers == number
            if number == 0 or piece.clock_s[inside][-1] - number * STRETCH_S >= STRETCH_S / 2.0:
                peaks.append(float(levels[inside].max()))
    return np.array(peaks, np.float64)
