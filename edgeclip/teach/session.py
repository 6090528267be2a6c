"""Teaching, listing and forgetting: what is kept in the state directory, and what is told of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import numpy as np

from edgeclip.atomic import atomic_write
from edgeclip.bundle import Bundle
from edgeclip.errors import DataError, UsageError
from edgeclip.progress import Progress, Silent
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.golden import check_golden, load_golden
from edgeclip.runtime.labelbank import load_bank
from edgeclip.runtime.labels import folded, parse_label
from edgeclip.runtime.shots import (
    Shot,
    Shots,
    locked,
    read_shots,
    read_thumbnails,
    shots_path,
    taught_elsewhere,
    write_shots,
)
from edgeclip.runtime.taughtlabels import fit_bank
from edgeclip.teach.collect import Taken, from_files, from_source
from edgeclip.teach.outliers import outliers
from edgeclip.teach.sheet import shot_sheet
from edgeclip.types import Label

SECONDS, MOST = 10.0, 16  # of a source, and shots of it
MOST_SHOTS = 2000  # of all labels: what is fitted again within a second


@dataclass(frozen=True)
class TeachOptions:
    """label: its name. shots: files, folders, patterns. source: or a URI as for `run`, for `seconds`, at most `frames`
    of it. keep_all: leave no outlier out."""

    label: str
    shots: tuple[str, ...] = ()
    source: str | None = None
    seconds: float = SECONDS
    frames: int = MOST
    keep_all: bool = False
    backend: str | None = None
    threads: int | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What teaching came to.

    new, again: pictures taken in, and those known before. shots: of the label, left_out ones included. sheet: a picture
    of them. way, text, taught: over all taught labels, how they are told apart, and the fractions of their shots
    recognised, left out one at a time, by the text alone and so; none where there is one label, or one shot of each.
    """

    label: str
    space: str
    new: int
    again: int
    shots: int
    left_out: tuple[Shot, ...]
    labels: int
    sheet: str
    way: str | None = None
    text: float | None = None
    taught: float | None = None


class TaughtLabel(msgspec.Struct, frozen=True):
    label: str
    shots: tuple[Shot, ...]

    @property
    def used(self) -> int:
        return sum(not shot.left_out for shot in self.shots)


class Taught(msgspec.Struct, frozen=True):
    """What a bundle's model was taught, and what others were: label to the files it was taught from."""

    space: str
    path: str
    labels: tuple[TaughtLabel, ...]
    elsewhere: dict[str, list[str]]


def teach(
    options: TeachOptions,
    bundle: Bundle,
    state: Path,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
) -> Outcome:
    """Embed the shots, leave outliers out, keep the rest. Raises DataError, SourceError, UsageError."""
    progress = progress or Silent()
    name = label_name(options.label)
    if bool(options.shots) == (options.source is not None):
        raise UsageError(
            "both pictures and a source are given" if options.shots else "neither pictures nor a source is given",
            "`edgeclip teach LABEL shots/` or `edgeclip teach LABEL --camera 0`",
        )
    engine = load_engine(bundle, "image", backend=options.backend, threads=options.threads)
    try:
        check_golden(engine, bundle)
        if options.source is None:
            taken = list(from_files(options.shots, bundle, engine, progress))
        else:
            taken = from_source(options.source, options.seconds, options.frames, bundle, engine, stop, progress)
    finally:
        engine.close()
    if not taken:
        raise DataError(
            f"none of {', '.join(options.shots)} is a readable picture", "give pictures that show the label"
        )
    path = shots_path(state, bundle.manifest.space)
    with locked(path):
        before = read_shots(path, bundle.manifest.space, bundle.manifest.dim)
        name = next((shot.label for shot in before.shots if folded(shot.label) == folded(name)), name)
        shots, thumbnails, new = _joined(before, read_thumbnails(path, len(before.shots)), taken, name)
        shots = _judged(shots, name, bundle, options.keep_all)
        write_shots(path, shots, thumbnails)
    rows = [row for row, shot in enumerate(shots.shots) if shot.label == name]
    mine = [shots.shots[row] for row in rows]
    sheet = _sheet_path(path, name)
    with atomic_write(sheet) as stream:
        stream.write(shot_sheet(name, mine, [thumbnails[row] for row in rows]).png())
    outcome = Outcome(
        label=name,
        space=bundle.manifest.space,
        new=new,
        again=len(taken) - new,
        shots=len(mine),
        left_out=tuple(shot for shot in mine if shot.left_out),
        labels=len({shot.label for shot in shots.shots}),
        sheet=str(sheet),
    )
    return _with_figures(outcome, shots, bundle, options, progress)


def forget(label: str, shot: str | None, bundle: Bundle, state: Path) -> int:
    """Take a label's shots out, or the one shot. Returns how many. Raises DataError where there is none such."""
    path = shots_path(state, bundle.manifest.space)
    with locked(path):
        before = read_shots(path, bundle.manifest.space, bundle.manifest.dim)
        mine = {row for row, one in enumerate(before.shots) if folded(one.label) == folded(label)}
        gone = {row for row in mine if shot is None or before.shots[row].id == shot}
        if not gone:
            what = f"{label!r} has no shot {shot}" if shot and mine else f"{label!r} was never taught to this model"
            raise DataError(what, "`edgeclip taught` lists labels and shots")
        keep = [row for row in range(len(before.shots)) if row not in gone]
        thumbnails = read_thumbnails(path, len(before.shots))
        write_shots(path, before.of(keep), [thumbnails[row] for row in keep])
        _sheet_path(path, label).unlink(missing_ok=True)  # it shows what is to be forgotten
    return len(gone)


def taught(bundle: Bundle, state: Path) -> Taught:
    """Raises DataError for a damaged file."""
    path = shots_path(state, bundle.manifest.space)
    shots = read_shots(path, bundle.manifest.space, bundle.manifest.dim)
    labels = tuple(
        TaughtLabel(label, tuple(shot for shot in shots.shots if shot.label == label))
        for label in dict.fromkeys(shot.label for shot in shots.shots)
    )
    return Taught(bundle.manifest.space, str(path), labels, taught_elsewhere(state, bundle.manifest.space))


def label_name(text: str) -> str:
    """A label as it would stand in a labels file. Raises UsageError."""
    label = parse_label(text)
    if label.prompts:
        raise UsageError(f"{text!r} has prompts", f"teach by the label's name alone: {label.name!r}")
    return label.name


def _sheet_path(path: Path, label: str) -> Path:
    return path.parent / f"{path.stem}-{hashlib.sha256(folded(label).encode()).hexdigest()[:8]}.png"


def _joined(
    before: Shots, thumbnails: Sequence[bytes], taken: Iterable[Taken], name: str
) -> tuple[Shots, list[bytes], int]:
    """With the pictures that are new to the label, and how many these are."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    known = {shot.id: shot.label for shot in before.shots}
    shots, rows, small = list(before.shots), list(before.embeddings), list(thumbnails)
    for one in taken:
        digest = hashlib.sha256(one.batch.tobytes()).hexdigest()[:12]
        other = known.setdefault(digest, name)
        if other != name:
            raise DataError(
                f"{one.origin} was taught as {other!r} already", f"`edgeclip forget {other!r} --shot {digest}` first"
            )
        if any(shot.id == digest for shot in shots):
            continue
        shots.append(Shot(digest, name, one.origin, now))
        rows.append(one.embedding)
        small.append(one.thumbnail)
    if len(shots) > MOST_SHOTS:
        raise DataError(f"{len(shots)} shots, and at most {MOST_SHOTS} are kept", "forget some, or teach with fewer")
    return Shots(tuple(shots), np.stack(rows), before.space), small, len(shots) - len(before.shots)


def _judged(shots: Shots, name: str, bundle: Bundle, keep_all: bool) -> Shots:
    """With the label's outliers marked, in the light of all of its shots."""
    labels = [shot.label for shot in shots.shots]
    found = {} if keep_all else outliers(shots.embeddings, labels, load_golden(bundle).embeddings)
    marked = tuple(
        msgspec.structs.replace(shot, left_out=found.get(row, "")) if shot.label == name else shot
        for row, shot in enumerate(shots.shots)
    )
    return Shots(marked, shots.embeddings, shots.space)


def _with_figures(outcome: Outcome, shots: Shots, bundle: Bundle, options: TeachOptions, progress: Progress) -> Outcome:
    """Text against taught, among the taught labels; where there are two, and a text engine to name them with."""
    labels = list(dict.fromkeys(shot.label for shot in shots.shots))
    if len(labels) < 2 or bundle.manifest.text.bank is not None:
        return outcome
    bank = load_bank(bundle, [Label(label) for label in labels], threads=options.threads, notices=progress.note)
    found, _ = fit_bank(bank, shots, bundle)
    if found is None:
        return outcome
    return msgspec.structs.replace(outcome, way=found.way, text=found.text, taught=found.taught)
