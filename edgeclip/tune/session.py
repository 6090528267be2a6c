"""One run of `edgeclip tune`: footage read, every watch's threshold fitted, all written, or nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from edgeclip import __version__
from edgeclip.atomic import atomic_write
from edgeclip.bundle import Bundle, open_bundle
from edgeclip.errors import DataError
from edgeclip.progress import Progress, Silent
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.background import load_background
from edgeclip.runtime.golden import check_golden
from edgeclip.runtime.labelbank import load_bank
from edgeclip.runtime.sinks.jsonl import utc
from edgeclip.runtime.thresholds import Thresholds, Tuned, read_thresholds, thresholds_path, write_thresholds
from edgeclip.runtime.watchbank import load_watch_bank
from edgeclip.runtime.watches import Watch, WatchFile, load_watches
from edgeclip.tune.clusters import Values
from edgeclip.tune.footage import Footage, Reader, expected, no_frames
from edgeclip.tune.plot import Drawn, tail_plot
from edgeclip.tune.positives import Recall, read_positives, recall
from edgeclip.tune.promise import DAY_S, Promise, parse_promise, said
from edgeclip.tune.series import Series, join
from edgeclip.tune.tail import CONFIDENCE
from edgeclip.tune.threshold import ALIKE, FITS, REACH, Fitted, as_probability, check_length, fit_threshold


@dataclass(frozen=True)
class TuneOptions:
    """What `edgeclip tune` is asked for.

    source: URIs as for `run`, of nothing but background. watch: the watches file. false_alarms: of each watch, as
    typed. positives: see read_positives(). out: the thresholds file; none: beside the watches, where `run` reads it.
    fps: as in the run that the thresholds are for. minutes: of live sources.
    """

    source: tuple[str, ...]
    watch: str
    false_alarms: str
    positives: tuple[str, ...] = ()
    bundle: str | None = None
    out: str | None = None
    fps: float | None = None
    minutes: float | None = None
    backend: str | None = None
    threads: int | None = None


class Outcome(msgspec.Struct, frozen=True):
    """watches: by name, with digest, enter, leave and the evidence, as in the thresholds file."""

    thresholds: str
    picture: str
    false_alarms: str
    footage: dict[str, Any]
    watches: dict[str, Tuned]
    notes: tuple[str, ...]


def tune(options: TuneOptions, stop: Callable[[], bool] = lambda: False, progress: Progress | None = None) -> Outcome:
    """Fit and write thresholds and their picture. Raises DataError, with nothing written, where the footage does not
    support the promise for every watch; and what reading files, sources and engines raises."""
    progress = progress or Silent()
    promise = parse_promise(options.false_alarms)
    file = load_watches(options.watch)
    if not file.watches:
        raise DataError(f"{options.watch} has no watches", "add `watches:`, each with a name and prompts")
    bundle = open_bundle(options.bundle)
    with ExitStack() as stack:
        engine = load_engine(bundle, "image", backend=options.backend, threads=options.threads)
        stack.callback(engine.close)
        check_golden(engine, bundle)
        embed = functools.partial(load_bank, bundle, threads=options.threads, notices=progress.note)
        bank = load_watch_bank(file, load_background(bundle, embed, file.background), embed)
        reader = Reader(bundle, engine, bank, progress, options.fps)
        coming = expected(options.source, options.fps, options.minutes)
        if coming is not None and coming[1] > 0.0:
            check_length(1.02 * coming[1], promise)  # hours are not watched for a promise that they cannot support
        progress.stage("background", coming[0] if coming is not None else None)
        footage = reader.read(options.source, options.minutes, stop)
        if not footage.frames:
            raise no_frames(footage)
        check_length(footage.seconds, promise)
        positives: dict[str, Values] = {}
        if options.positives:
            progress.stage("positives")
            positives = read_positives(options.positives, file.watches, reader, stop)
    seen = [watch for watch in file.watches if watch.name in footage.pieces]
    if not seen:
        raise DataError(
            f"no watch of {options.watch} looks at {', '.join(footage.sources)}", "see `source:` in the watches file"
        )
    progress.stage("thresholds", len(seen))
    drawn, tuned = [], {}
    for watch in seen:
        series = join(footage.pieces[watch.name], watch.dwell_s, watch.agree)
        fitted = fit_threshold(series, watch, promise)
        found = recall(positives[watch.name], fitted.enter) if watch.name in positives else None
        tuned[watch.name] = _tuned(file, watch, promise, series, fitted, found, footage, bundle)
        drawn.append(Drawn(watch.name, series, fitted, positives.get(watch.name)))
        progress.advance()
    progress.done()
    path = Path(options.out) if options.out else thresholds_path(options.watch)
    notes = _notes(file, seen, tuned, path, options.watch)
    picture = path.with_suffix(".png")
    with atomic_write(picture) as stream:
        stream.write(tail_plot(drawn, promise, footage.seconds).png())
    write_thresholds(path, Thresholds(bundle.manifest.space, {**_kept(path, file, bundle), **tuned}))
    return Outcome(str(path), str(picture), promise.text, _about(footage), tuned, notes)


def _kept(path: Path, file: WatchFile, bundle: Bundle) -> dict[str, Tuned]:
    """What an earlier tuning found for watches of this file, in the same space."""
    before = read_thresholds(path)
    if before is None or before.space != bundle.manifest.space:
        return {}
    digests = {watch.name: file.digest(watch) for watch in file.watches}
    return {name: tuned for name, tuned in before.watches.items() if digests.get(name) == tuned.digest}


def _tuned(
    file: WatchFile,
    watch: Watch,
    promise: Promise,
    series: Series,
    fitted: Fitted,
    found: Recall | None,
    footage: Footage,
    bundle: Bundle,
) -> Tuned:
    usual, low, high = (rate * DAY_S for rate in fitted.rate)
    evidence: dict[str, Any] = {
        "false_alarms": promise.text,
        "per_day": {"promised": promise.per_day, "likely": usual, "low": low, "high": high, "confidence": CONFIDENCE},
        "footage": {**_about(footage), "seconds": round(series.seconds, 3), "alarms": fitted.on_footage},
        "needed_s": 1.0 / promise.per_s / REACH,
        "tail": {
            "clusters": len(fitted.clusters.peaks),
            "run_s": round(fitted.clusters.run_s, 3),
            "extremal_index": round(fitted.clusters.index, 4),
            "threshold": round(fitted.tail.threshold, 4),
            "alarms_per_cluster": round(fitted.alarms_per_cluster, 3),
            "goodness_p": round(fitted.goodness, 4),
            "halves_p": round(fitted.drift, 4),
        },
        "log_odds": {"enter": fitted.enter, "leave": fitted.leave},
        "bundle": bundle.manifest.name,
        "tuned": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "edgeclip": __version__,
    }
    if found is not None:
        evidence["recall"] = asdict(found)
    return Tuned(file.digest(watch), as_probability(fitted.enter), as_probability(fitted.leave), evidence)


def _about(footage: Footage) -> dict[str, Any]:
    return {
        "sources": list(footage.sources),
        "seconds": round(footage.seconds, 3),
        "frames": footage.frames,
        "fps": round(footage.frames / max(footage.seconds, 1e-9), 3),
        "from": utc(footage.began_ns),
        "to": utc(footage.ended_ns),
        "digest": footage.digest,
    }


def _notes(
    file: WatchFile, seen: Sequence[Watch], tuned: dict[str, Tuned], path: Path, watch_file: str
) -> tuple[str, ...]:
    """What a reader of the table should know besides."""
    unseen = [watch.name for watch in file.watches if watch.name not in tuned]
    notes = [f"{name}: not tuned, it looks at none of these sources" for name in unseen]
    for watch in seen:
        tail = tuned[watch.name].evidence["tail"]
        if tail["halves_p"] < ALIKE:
            notes.append(
                f"{watch.name}: the halves of the footage are not alike (p = {tail['halves_p']:.1g}): the promise is "
                "for days like these; whole days, of every kind there is, are best"
            )
        if tail["goodness_p"] < FITS:
            notes.append(f"{watch.name}: its highest scores follow no tail closely (p = {tail['goodness_p']:.1g})")
        if watch.enter is not None:
            notes.append(f"{watch.name}: `enter` is written in {watch_file}, and comes before the tuned one")
    if path != thresholds_path(watch_file):
        notes.append(f"`edgeclip run` reads {thresholds_path(watch_file)}, and this is {path}")
    return tuple(notes)


def table(outcome: Outcome) -> list[str]:
    """Lines for a terminal."""
    width = max([len(name) for name in outcome.watches] + [5])
    lines = [
        f"{said(outcome.footage['seconds'])} of footage, {outcome.footage['frames']:,} frames; at most "
        f"{outcome.false_alarms} false alarms of each watch, upper end of a {CONFIDENCE:.0%} interval",
        f"{'watch':<{width}}  {'enter':>7}  {'leave':>7}  {'likely/day':>10}  {'low':>8}  {'high':>8}  {'peaks':>5}  "
        "recall",
    ]
    for name, tuned in outcome.watches.items():
        day, found = tuned.evidence["per_day"], tuned.evidence.get("recall")
        shown = f"{found['share']:.0%} of {found['n']} ({found['low']:.0%}-{found['high']:.0%})" if found else "-"
        lines.append(
            f"{name:<{width}}  {tuned.enter:7.4f}  {tuned.leave:7.4f}  {day['likely']:10.3g}  {day['low']:8.2g}  "
            f"{day['high']:8.3g}  {tuned.evidence['tail']['clusters']:5d}  {shown}"
        )
    return lines
