"""Measured false alarms against the promised rate, on held-out footage, beside thresholds that people set by hand.

    python benchmarks/false_alarms.py --data dev.tar.gz --work build-work/alarms [--clips a.mp4 b.mp4] [--hours 12]

Footage is photographs turned into video (alarm_footage.py). Each half of the photographs is tuned on once and held out
once. Every method sees the same scores, smoothing and state machine; they differ in the score and its threshold alone.
Prints the tables of false_alarms.md, and draws false_alarms.png.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import alarm_footage as footage
import numpy as np
import numpy.typing as npt
from alarm_footage import FPS, WATCHES, Day

from edgeclip.bundle import Bundle, open_bundle
from edgeclip.capture.canvas import BLUE, GREEN, INK, ORANGE, RED, SOFT, VIOLET, Canvas
from edgeclip.errors import DataError
from edgeclip.progress import progress_for
from edgeclip.runtime.background import Background, load_background
from edgeclip.runtime.decision import smooth
from edgeclip.runtime.labelbank import load_bank
from edgeclip.runtime.presence import Rule
from edgeclip.runtime.similarity import score
from edgeclip.runtime.watchbank import WatchBank, load_watch_bank
from edgeclip.runtime.watches import ENTER, LEAVE_BELOW, Watch, WatchFile
from edgeclip.tune.positives import wilson
from edgeclip.tune.promise import DAY_S, Promise, parse_promise, said
from edgeclip.tune.series import Piece, Series, count_alarms, join
from edgeclip.tune.threshold import fit_threshold
from edgeclip.types import Embeddings, TextBank

Values = npt.NDArray[np.float64]
Scored = Callable[[Embeddings], Values]  # embeddings [N, D] -> smoothed scores [N, W]

PROMISES = ("4/hour", "1/hour", "6/day", "1/day")
TUNED_ON_H = 6.0
SHOWN_S = 10  # a positive's time in view, between two stretches of background as long
FOUND_WITHIN_S = 3  # after it left: smoothing lags
WATCH_FILE = WatchFile(watches=[Watch(name=name) for name in WATCHES])


@dataclass
class Tally:
    """One method over all watches and both halves. seconds: watched, each watch for itself."""

    name: str
    promised_per_s: float | None = None
    alarms: int = 0
    seconds: float = 0.0
    shown: int = 0
    found: int = 0
    kept: int = 0  # watches whose measured rate is at most the promise
    watches: int = 0
    refused: list[str] = field(default_factory=list)

    @property
    def per_day(self) -> float:
        return self.alarms / self.seconds * DAY_S if self.seconds else 0.0

    def interval(self) -> tuple[float, float]:
        """Alarms a day, exact Poisson 95 %. The alarms of one picture are not independent: it is wider in truth."""
        low, high = poisson_interval(self.alarms)
        return low / self.seconds * DAY_S, high / self.seconds * DAY_S


def poisson_interval(count: int, share: float = 0.95) -> tuple[float, float]:
    """Garwood's exact interval of a Poisson mean, by bisection on its distribution."""
    tail = (1.0 - share) / 2.0

    def below(mean: float, until: int) -> float:
        logs = [-mean + k * math.log(mean) - math.lgamma(k + 1) for k in range(until + 1)] if mean > 0 else [0.0]
        return math.fsum(math.exp(value) for value in logs)

    def solve(wanted: float, until: int) -> float:
        low, high = 0.0, 10.0 * (count + 10)
        for _ in range(80):
            middle = (low + high) / 2.0
            low, high = (middle, high) if below(middle, until) > wanted else (low, middle)
        return high

    return (solve(1.0 - tail, count - 1) if count else 0.0), solve(tail, count)


def smoothed(raw: npt.NDArray[np.float32]) -> Values:
    """[N, W] over time with the watches' half-life, as the runtime smooths."""
    half_life_s = np.full(raw.shape[1], WATCH_FILE.watches[0].smoothing_s)
    result = np.empty(raw.shape, np.float32)
    result[0] = raw[0]
    for index in range(1, len(raw)):
        result[index] = smooth(result[index - 1], raw[index], 1.0 / FPS, half_life_s)
    return result.astype(np.float64)


def log_odds(bank: WatchBank, rows: Embeddings) -> Values:
    return smoothed(np.stack([bank.log_odds(row[None, :]) for row in rows]))


def cosines(texts: Embeddings, rows: Embeddings) -> Values:
    return smoothed(rows @ texts.T)


def softmax_scores(texts: Embeddings, watches: int, bundle: Bundle, rows: Embeddings) -> Values:
    """Of the watches' names among `texts` [T, D], which exclude each other."""
    return smoothed(score(rows @ texts.T, bundle.manifest.scoring)[:, :watches])


def piece(scores: Values) -> Piece:
    return Piece(np.arange(len(scores)) / FPS, scores)


def positive_film(
    half: footage.Photographs, watch: str, random: np.random.Generator
) -> tuple[list[tuple[footage.Pixels, int]], list[int]]:
    """Shots, and the first frame of each positive: background, positive, background, ..."""
    length = int(SHOWN_S * FPS)
    shots, starts = [], []
    for picture in half.positives[watch]:
        for _ in range(2):  # each twice, with another crop
            shots += [(half.background[int(random.integers(len(half.background)))], length), (picture, length)]
            starts.append((len(shots) - 1) * length)
    return shots, starts


def found(series: Series, rule: Rule, starts: Sequence[int]) -> int:
    """Positives while which, or just after, the watch held."""
    from edgeclip.runtime.presence import Presence

    presence, held = Presence("", rule), np.zeros(len(series.scores), bool)
    for index, value in enumerate(series.scores.tolist()):
        presence.update(value, round(series.clock_s[index] * 1e9), 0, 0)
        held[index] = presence.on
    shown = int(SHOWN_S * FPS)
    return sum(bool(held[start : start + shown + int(FOUND_WITHIN_S * FPS)].any()) for start in starts)


@dataclass(frozen=True)
class Half:
    """One half of the photographs, embedded. positives: by watch, embeddings and where each begins."""

    background: Embeddings
    positives: dict[str, tuple[Embeddings, list[int]]]


def embed_half(
    number: int, half: footage.Photographs, hours: float, bundle: Bundle, work: Path, progress: object
) -> Half:
    day, total = Day(number + 1), int(hours * 3600 * FPS)
    shots = footage.background_shots(half.background, total, day.random)
    path = work / f"background-{number}.npy"
    background = footage.embed(footage.film(shots, day), bundle, path, total, progress)  # type: ignore[arg-type]
    positives = {}
    for index, watch in enumerate(WATCHES):
        day = Day(100 + 2 * index + number)
        shots, starts = positive_film(half, watch, day.random)
        path, count = work / f"positive-{number}-{index}.npy", sum(frames for _, frames in shots)
        rows = footage.embed(footage.film(shots, day), bundle, path, count, progress)  # type: ignore[arg-type]
        positives[watch] = rows, starts
    return Half(background, positives)


def measure(tally: Tally, rule: Rule, held_out: Values, positive: Values, starts: Sequence[int], watch: Watch) -> None:
    series = join([piece(held_out)], watch.dwell_s, watch.agree)
    alarms = count_alarms(series, rule)
    tally.alarms += alarms
    tally.seconds += series.seconds
    tally.watches += 1
    if tally.promised_per_s is not None:
        tally.kept += alarms <= tally.promised_per_s * series.seconds + 1e-9
    shown = join([piece(positive)], watch.dwell_s, watch.agree)
    tally.shown += len(starts)
    tally.found += found(shown, rule, starts)


def compare(tune_on: Half, hold_out: Half, methods: dict[str, Scored], tallies: dict[str, Tally]) -> None:
    """Every method's threshold from tune_on, its alarms and recall on hold_out. Adds to tallies."""
    minutes = {"1 min": 60, "1 h": 3600}
    until = int(TUNED_ON_H * 3600 * FPS)
    scores = {name: (make(tune_on.background[:until]), make(hold_out.background)) for name, make in methods.items()}
    for column, watch in enumerate(WATCH_FILE.watches):
        rows, starts = hold_out.positives[watch.name]
        positive = {name: make(rows)[:, column] for name, make in methods.items()}

        def at(name: str, method: str, rule: Rule, promised: float | None = None) -> None:
            tally = tallies.setdefault(name, Tally(name, promised))
            measure(tally, rule, scores[method][1][:, column], positive[method], starts, watch)  # noqa: B023

        series = join([piece(scores["odds"][0][:, column])], watch.dwell_s, watch.agree)
        for text in PROMISES:
            promise: Promise = parse_promise(text)
            name = f"edgeclip tune, {text}"
            try:
                fitted = fit_threshold(series, watch, promise)
            except DataError as error:
                tallies.setdefault(name, Tally(name, promise.per_s)).refused.append(error.message)
                continue
            at(name, "odds", Rule(fitted.enter, fitted.leave), promise.per_s)
        usual = math.log(ENTER / (1.0 - ENTER))
        at("edgeclip untuned (0.8)", "odds", Rule(usual, usual - LEAVE_BELOW))
        at("softmax over the watches, 0.5", "softmax", Rule(0.5, 0.5))
        at("softmax over watches and 80 scenes, 0.5", "softmax with scenes", Rule(0.5, 0.5))
        for said_as, seconds in minutes.items():
            level = float(scores["cosine"][0][: int(seconds * FPS), column].max()) + 0.02
            at(f"slider: best cosine of the first {said_as}, + 0.02", "cosine", Rule(level, level))
        at("one cosine for all, 0.25", "cosine", Rule(0.25, 0.25))


def methods_of(bundle: Bundle) -> dict[str, Scored]:
    embed = functools.partial(load_bank, bundle)
    background: Background = load_background(bundle, embed)
    bank = load_watch_bank(WATCH_FILE, background, embed)
    names: TextBank = bundle_names(bank)
    with_scenes = np.concatenate([names.embeddings, background.texts])
    return {
        "odds": functools.partial(log_odds, bank),
        "cosine": functools.partial(cosines, names.embeddings),
        "softmax": functools.partial(softmax_scores, names.embeddings, len(names.names), bundle),
        "softmax with scenes": functools.partial(softmax_scores, with_scenes, len(names.names), bundle),
    }


def bundle_names(bank: WatchBank) -> TextBank:
    return TextBank(tuple(watch.name for watch in bank.watches), bank.texts[bank.positive], "")


def clips_table(
    paths: Sequence[str], bundle: Bundle, methods: dict[str, Scored], work: Path, progress: object
) -> list[str]:
    """Real clips, each cut in two, looped with jitter and drifting light: tuned on one part, held out on another."""
    hours, lines = 1.0, []
    total = int(hours * 3600 * FPS)
    parts: dict[str, Values] = {}
    for path in paths:
        for number, part in enumerate(((0.0, 0.5), (0.5, 1.0))):
            name = f"{Path(path).stem} {'first' if not number else 'second'} half"
            frames = footage.clip_frames(path, hours * 3600, part, Day(7 + number))
            rows = footage.embed(frames, bundle, work / f"clip-{Path(path).stem}-{number}.npy", total, progress)  # type: ignore[arg-type]
            parts[name] = methods["odds"](rows)
    promise = parse_promise("1/hour")
    for tuned_on, on in parts.items():
        for held, scores in parts.items():
            if held == tuned_on:
                continue
            alarms, seconds, refused = 0, 0.0, 0
            for column, watch in enumerate(WATCH_FILE.watches):
                try:
                    fitted = fit_threshold(join([piece(on[:, column])], 0.0, 1.0), watch, promise)
                except DataError:
                    refused += 1
                    continue
                series = join([piece(scores[:, column])], 0.0, 1.0)
                alarms += count_alarms(series, Rule(fitted.enter, fitted.leave))
                seconds += series.seconds
            low, high = (bound / max(seconds * promise.per_s, 1e-9) for bound in poisson_interval(alarms))
            ratio = alarms / max(seconds * promise.per_s, 1e-9)
            lines.append(
                f"| {tuned_on} | {held} | {len(WATCHES) - refused} of {len(WATCHES)} | {alarms} in {said(seconds)} | "
                f"{ratio:.2f} ({low:.2f} to {high:.2f}) |"
            )
    return lines


def table(tallies: Sequence[Tally]) -> list[str]:
    lines = [
        "| threshold | false alarms a day of one watch | measured / promised | watches that kept it | recall |",
        "|---|---|---|---|---|",
    ]
    for tally in tallies:
        low, high = tally.interval() if tally.seconds else (0.0, 0.0)
        share = tally.found / max(tally.shown, 1)
        bottom, top = wilson(tally.found, tally.shown)
        ratio = kept = ""
        if tally.promised_per_s is not None and tally.seconds:
            day = tally.promised_per_s * DAY_S
            ratio = f"{tally.per_day / day:.2f} ({low / day:.2f} to {high / day:.2f})"
            kept = f"{tally.kept} of {tally.watches}" + (f", {len(tally.refused)} refused" if tally.refused else "")
        lines.append(
            f"| {tally.name} | {tally.per_day:.3g} ({low:.3g} to {high:.3g}) | {ratio} | {kept} | "
            f"{share:.0%} ({bottom:.0%} to {top:.0%}) |"
        )
    return lines


def plot(tallies: Sequence[Tally], path: Path) -> None:
    """False alarms a day against recall, a dot for each method."""
    canvas = Canvas(1400, 760)
    left, top, width, height = 110, 110, 760, 560
    canvas.text("False alarms against recall, on held-out footage", 48, 50, 28)
    canvas.text(
        f"{len(WATCHES)} watches, nano, photographs as video; red: the rate that was promised", 48, 82, 17, SOFT
    )
    low, high = -1.0, 4.0

    def x(per_day: float) -> float:
        return left + (min(max(math.log10(max(per_day, 1e-9)), low), high) - low) / (high - low) * width

    def y(share: float) -> float:
        return top + (1.0 - share) * height

    for power in range(int(low), int(high) + 1):
        canvas.line([(x(10.0**power), top), (x(10.0**power), top + height)], (236, 230, 226), 1)
        canvas.text(f"{10.0**power:g}", x(10.0**power), top + height + 26, 16, SOFT, align=0.5)
    canvas.text("false alarms a day of one watch", left + width / 2, top + height + 60, 18, SOFT, align=0.5)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        canvas.line([(left, y(share)), (left + width, y(share))], (236, 230, 226), 1)
        canvas.text(f"{share:.0%}", left - 12, y(share) + 6, 16, SOFT, align=1)
    colours = (BLUE, GREEN, ORANGE, VIOLET, INK)
    for number, tally in enumerate(tallies):
        share = tally.found / max(tally.shown, 1)
        colour = BLUE if tally.promised_per_s is not None else colours[1 + number % 4]
        bounds = tally.interval() if tally.seconds else (0.0, 0.0)
        canvas.line([(x(bounds[0]), y(share)), (x(bounds[1]), y(share))], colour, 2)
        canvas.dot(x(tally.per_day), y(share), 7.0, colour)
        if tally.promised_per_s is not None:
            at = x(tally.promised_per_s * DAY_S)
            canvas.line([(at, y(share) - 12), (at, y(share) + 12)], RED, 3)
        canvas.text(str(number + 1), x(tally.per_day) + 10, y(share) - 10, 16, colour)
        row = top + 24 + 44 * number
        canvas.text(f"{number + 1}  {tally.name}", left + width + 40, row, 15, colour)
        canvas.text(f"{tally.per_day:.3g} a day, recall {share:.0%}", left + width + 64, row + 19, 13, SOFT)
    path.write_bytes(canvas.png())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/dev.tar.gz")
    parser.add_argument("--clips", nargs="*", default=[])
    parser.add_argument("--work", type=Path, default=Path("build-work/alarms"), help="embeddings are kept here")
    parser.add_argument("--hours", type=float, default=12.0, help="of each half")
    parser.add_argument("--bundle")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    methods = methods_of(bundle)
    tallies: dict[str, Tally] = {}
    with progress_for(sys.stderr) as progress:
        halves = [
            embed_half(number, half, options.hours, bundle, options.work, progress)
            for number, half in enumerate(footage.photographs(options.data))
        ]
        for tune_on, hold_out in (halves, halves[::-1]):
            compare(tune_on, hold_out, methods, tallies)
        clips = clips_table(options.clips, bundle, methods, options.work, progress) if options.clips else []
    lines = table(list(tallies.values()))
    print("\n".join([*lines, "", *clips]))
    for name, tally in tallies.items():
        for message in tally.refused[:2]:
            print(f"{name}: {message}")
    plot(list(tallies.values()), options.out / "false_alarms.png")


if __name__ == "__main__":
    main()
