"""A watches file made ready for frames: its texts embedded, its regions and rules in arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeclip.region import Regions
from edgeclip.runtime.background import Background, Embed
from edgeclip.runtime.evidence import SAME, Floats, alike, log_odds
from edgeclip.runtime.presence import Rule
from edgeclip.runtime.scenes import as_written
from edgeclip.runtime.thresholds import Thresholds
from edgeclip.runtime.watches import ENTER, Watch, WatchFile, usual_leave
from edgeclip.types import Embeddings, Label, Shown

NAMED = 8  # watches that one line names


@dataclass(frozen=True, slots=True)
class WatchBank:
    """W watches in force, in the file's order.

    regions: the distinct parts of the frame they look at, None being all of it, which comes first. region: [W], which
    of these. rules: when each begins and ends. half_life_s: [W] of smoothing.
    texts: [Q, D] unit vectors. positive: [W] rows of texts; negative: [W, K] rows, -1 where a watch has fewer.
    apart: [W, B] which background texts count against a watch. tuned: names of those whose threshold was tuned.
    shown: where watches are named like labels that were taught with pictures.
    """

    watches: tuple[Watch, ...]
    regions: Regions
    region: npt.NDArray[np.int64]
    rules: tuple[Rule, ...]
    half_life_s: npt.NDArray[np.float64]
    texts: Embeddings
    positive: npt.NDArray[np.int64]
    negative: npt.NDArray[np.int64]
    apart: npt.NDArray[np.bool_]
    background: Background
    tuned: frozenset[str] = frozenset()
    shown: Shown | None = None

    def log_odds(self, embeddings: Embeddings) -> Floats:
        """For one frame's embeddings [R, D], a row for each of `regions`: log-odds [W] of every watch, not smoothed."""
        every = np.arange(len(self.watches))
        cosines = (embeddings @ self.texts.T)[self.region]
        negatives = np.where(self.negative >= 0, cosines[every[:, None], self.negative], np.float32(-np.inf))
        scenes = np.where(self.apart, (embeddings @ self.background.texts.T)[self.region], np.float32(-np.inf))
        odds = log_odds(cosines[every, self.positive], negatives, scenes, self.background.null)
        if self.shown is not None:
            self.shown.blend(odds, embeddings[self.region])
        return odds


def load_watch_bank(
    file: WatchFile,
    background: Background,
    embed: Embed,
    *,
    thresholds: Thresholds | None = None,
    space: str = "",
    notify: Callable[[str], None] = lambda _: None,
) -> WatchBank:
    """embed: labels to a text bank (load_bank). thresholds count where they fit the watch and `space`; where they do
    not, notify says so. Raises what `embed` raises."""
    watches = tuple(file.watches)
    negatives = list(dict.fromkeys(text for watch in watches for text in watch.negative))
    texts = embed([*(Label(watch.name, watch.positive) for watch in watches), *as_written(negatives)]).embeddings
    negative = np.full((len(watches), max((len(watch.negative) for watch in watches), default=0)), -1, np.int64)
    for row, watch in enumerate(watches):
        for column, text in enumerate(watch.negative):
            negative[row, column] = len(watches) + negatives.index(text)
    regions: Regions = tuple(dict.fromkeys([None, *(watch.region for watch in watches)]))
    return WatchBank(
        watches=watches,
        regions=regions,
        region=np.array([regions.index(watch.region) for watch in watches], np.int64),
        rules=settle(file, thresholds, space, notify),
        half_life_s=np.array([watch.smoothing_s for watch in watches], np.float64),
        texts=texts,
        positive=np.arange(len(watches)),
        negative=negative,
        apart=alike(texts[: len(watches)], background.texts, background.texts.mean(axis=0)) < SAME,
        background=background,
        tuned=frozenset(watch.name for watch in watches if _is_tuned(watch, file, thresholds, space)),
    )


def _is_tuned(watch: Watch, file: WatchFile, thresholds: Thresholds | None, space: str) -> bool:
    if thresholds is None or thresholds.space != space or watch.enter is not None:
        return False
    found = thresholds.watches.get(watch.name)
    return found is not None and found.digest == file.digest(watch)


def settle(
    file: WatchFile, thresholds: Thresholds | None, space: str, notify: Callable[[str], None]
) -> tuple[Rule, ...]:
    """The rule of every watch: thresholds as written in the file, else as tuned for exactly it, else the usual ones."""
    tuned = thresholds.watches if thresholds is not None else {}
    if thresholds is not None and thresholds.space != space:
        notify("the tuned thresholds are of another embedding space and not used: run `edgeclip tune` again")
        tuned = {}
    rules = []
    for watch in file.watches:
        enter, leave = watch.enter, watch.leave
        found = tuned.get(watch.name)
        if found is not None and found.digest != file.digest(watch):
            notify(
                f"watch {watch.name!r} was changed since it was tuned, and its thresholds are not used: "
                "run `edgeclip tune` again"
            )
        elif found is not None and enter is not None:
            notify(f"watch {watch.name!r}: `enter` is written in the watches file, and the tuned one is not used")
        elif found is not None:
            enter, leave = found.enter, found.leave
        enter = ENTER if enter is None else enter
        leave = usual_leave(enter) if leave is None else leave
        rules.append(Rule(enter, leave, watch.dwell_s, watch.agree, watch.cooldown_s))
    return tuple(rules)


def provenance(file: WatchFile, thresholds: Thresholds | None, space: str) -> str:
    """One line that says which watches run on tuned thresholds, and which do not."""
    tuned = thresholds.watches if thresholds is not None and thresholds.space == space else {}
    groups: dict[str, list[str]] = {}
    for watch in file.watches:
        found = tuned.get(watch.name)
        if watch.enter is not None:
            where = "as written"
        elif found is None or found.digest != file.digest(watch):
            where = f"not tuned (enter {ENTER:g})"
        else:
            promise = found.evidence.get("false_alarms")
            where = f"tuned to {promise} false alarms" if promise else "tuned"
        groups.setdefault(where, []).append(watch.name)
    parts = []
    for where, names in groups.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        parts.append(f"{where}: {', '.join(names[:NAMED])}{more}")
    return "thresholds " + "; ".join(parts)
