"""Text banks refined by what was taught to the same model, and refined again when that changes."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeclip.bundle import Bundle
from edgeclip.errors import is_of_system
from edgeclip.runtime.evidence import MATCHED, Null
from edgeclip.runtime.fewshot import Fit, fit
from edgeclip.runtime.frames import pictures
from edgeclip.runtime.golden import load_golden
from edgeclip.runtime.labels import folded
from edgeclip.runtime.shots import Shots, read_shots, shots_path, taught_elsewhere
from edgeclip.runtime.shown import Shown, shown_by
from edgeclip.types import Embeddings, TextBank

SHOWN = 5  # labels, files named in a notice
KNOWN = 0.7  # of what right texts reach on average: a text that reaches it on the shots knows them


def fit_bank(bank: TextBank, shots: Shots, bundle: Bundle) -> tuple[Fit | None, Counter[str]]:
    """The fit for a bank's labels, None where none of them was taught, and how many shots each of these has."""
    row = {folded(name): index for index, name in enumerate(bank.names)}
    used = [index for index, shot in enumerate(shots.shots) if not shot.left_out and folded(shot.label) in row]
    if not used:
        return None, Counter()
    rows = np.array([row[folded(shots.shots[index].label)] for index in used], np.int64)
    counts = Counter(bank.names[index] for index in rows.tolist())
    scale = bundle.manifest.scoring.scale
    return fit(bank.embeddings, scale, shots.embeddings[used], rows, pictures(bundle)), counts


def shown_in(
    names: Sequence[str], shots: Shots, background: Embeddings, text: Callable[[int, Embeddings], float]
) -> Shown | None:
    """What the shots say by themselves for `names`, None where none of them was taught.

    text: how well the text of a name knows its shots, 0..1.
    """
    used = [index for index, shot in enumerate(shots.shots) if not shot.left_out]
    labels = list(dict.fromkeys(folded(shots.shots[index].label) for index in used))
    row = {folded(name): index for index, name in enumerate(names)}
    rows = [row.get(label, -1) for label in labels]
    if max(rows, default=-1) < 0:
        return None
    own = np.array([labels.index(folded(shots.shots[index].label)) for index in used], np.int64)
    embeddings = shots.embeddings[used]
    known = [text(name, embeddings[own == label]) if name >= 0 else 0.0 for label, name in enumerate(rows)]
    return shown_by(embeddings, own, rows, background, np.array(known, np.float32))


class TaughtLabels:
    """What was taught to a bundle's model.

    latest: the bank that was refined last. counts: of its taught labels, how many shots each has. well: whether the
    file could be read when it was last looked at.
    """

    def __init__(self, bundle: Bundle, state: Path, notify: Callable[[str], None]) -> None:
        self._bundle = bundle
        self._notify = notify
        self._lock = threading.Lock()
        space, dim = bundle.manifest.space, bundle.manifest.dim
        self._path = shots_path(state, space)
        self._seen = self._signature()
        self._shots = read_shots(self._path, space, dim)
        self._elsewhere = {} if self._shots.shots else taught_elsewhere(state, space)
        self._plain: TextBank | None = None
        self._said = ""
        self._unread = False
        self.well = True
        self.latest: TextBank | None = None
        self.counts: Counter[str] = Counter()

    def refine(self, bank: TextBank) -> TextBank:
        """The bank itself where nothing in it was taught. What counts is said once, and when it changes."""
        with self._lock:
            self._plain = bank
            return self._refine(bank)

    def poll(self) -> Shots | None:
        """What is kept now, where that has changed. At once: it is only ever replaced whole. Raises DataError, once
        for each damaged file, and once from when it cannot be read until it can."""
        current = self._signature()
        if current == self._seen and not self._unread:
            return None
        self._seen = current
        try:
            shots = read_shots(self._path, self._bundle.manifest.space, self._bundle.manifest.dim)
        except Exception as error:
            told, self._unread, self.well = self._unread, is_of_system(error), False
            if told and self._unread:
                return None  # tried again at the next look
            raise
        self._unread, self.well = False, True
        return None if shots == self._shots else shots

    def changed(self, shots: Shots) -> TextBank:
        """The bank last given to refine(), refined by these shots."""
        with self._lock:
            self._shots = shots
            assert self._plain is not None
            return self._refine(self._plain)

    def labels(self) -> dict[str, int]:
        """Folded names of all that was taught, with the shots in use."""
        return dict(Counter(folded(shot.label) for shot in self._shots.shots if not shot.left_out))

    def shown(self, names: Sequence[str], texts: Embeddings, null: Null) -> Shown | None:
        """What the shots say for watches of these names, None where none of them was taught. texts: [W, D]."""

        def knows(row: int, mine: Embeddings) -> float:
            reached = float((mine @ texts[row]).mean() - null.mean) / null.spread
            return min(max(reached / (KNOWN * MATCHED[0]), 0.0), 1.0)

        with self._lock:
            return shown_in(names, self._shots, load_golden(self._bundle).embeddings, knows)

    def _signature(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def _refine(self, bank: TextBank) -> TextBank:
        found, counts = fit_bank(bank, self._shots, self._bundle)
        self.latest = bank
        if found is not None:
            shown = shown_in(bank.names, self._shots, load_golden(self._bundle).embeddings, lambda _, mine: 0.0)
            self.latest = replace(bank, refinement=found.refinement, shown=shown)
        self.counts = counts
        said = self._foreign(bank) if found is None else _told(found, counts)
        if said and said != self._said:
            self._notify(said)
        self._said = said
        return self.latest

    def _foreign(self, bank: TextBank) -> str:
        names = {folded(name) for name in bank.names}
        mine = [label for label in self._elsewhere if folded(label) in names]
        if not mine:
            return ""
        origins = list(dict.fromkeys(origin for label in mine for origin in self._elsewhere[label]))
        return (
            f"{_some(mine)}: taught to another model, which says nothing to this one; teach again from {_some(origins)}"
        )


def _told(found: Fit, counts: Counter[str]) -> str:
    labels = _some([f"{name} ({count})" for name, count in counts.items()])
    if found.refinement is None:
        return f"taught labels and their shots: {labels}; the text alone does better, and is used"
    return f"taught labels and their shots: {labels}, by {found.way} (--no-taught leaves them out)"


def _some(items: list[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more
