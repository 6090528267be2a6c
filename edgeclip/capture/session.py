"""One run of `edgeclip capture`: sources, engine and folder opened, frames looked at until it ends, reports written."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import msgspec

from edgeclip.bundle import open_bundle
from edgeclip.capture.collector import Collector
from edgeclip.capture.folder import CaptureFolder, Counts
from edgeclip.capture.quality import MIN_SHARPNESS
from edgeclip.capture.report import BUILD_MINIMUM, write_reports
from edgeclip.errors import DataError, UsageError
from edgeclip.progress import Progress, Silent, duration
from edgeclip.runtime.ahead import Ahead
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.golden import check_golden
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.runtime.sources import open_source
from edgeclip.runtime.supervisor import Supervisor

FRAMES, FRAMES_MOST = 512, 4096  # all distances between them are kept: 64 MiB for the most
FIRST_SAID_S, SAID_MOST_S = 2.0, 60.0  # between two lines of progress, twice as long each time


@dataclass(frozen=True)
class CaptureOptions:
    """What `edgeclip capture` is asked for.

    source: URIs as for `run`. out: the set's folder, new or one to go on with. frames: to keep at most.
    fps: look at this many a second at most. seconds: end after so long. patience: end when nothing new has come for so
    many seconds. min_sharpness: below it a frame is blurred. wait: for a live source that is not there yet.
    """

    source: tuple[str, ...]
    out: Path
    frames: int = FRAMES
    bundle: str | None = None
    fps: float | None = None
    seconds: float | None = None
    patience: float | None = None
    min_sharpness: float = MIN_SHARPNESS
    backend: str | None = None
    threads: int | None = None
    wait: bool = False


class Outcome(msgspec.Struct, frozen=True):
    """A capture, once it is over.

    ended: why. kept: frames in the set. new: kept by this run, which took `seconds`. counts: over all runs.
    closest, neighbour: distance of the closest pair, and of a frame to its nearest neighbour, median; null below two
    frames. latest: median distance of the frames kept last, when they came. enough: whether `edgeclip build` takes it.
    """

    out: str
    ended: str
    kept: int
    new: int
    seconds: float
    counts: Counts
    dropped: int
    reconnects: int
    closest: float | None
    neighbour: float | None
    latest: float | None
    enough: bool


def capture(
    options: CaptureOptions, stop: Callable[[], bool] = lambda: False, progress: Progress | None = None
) -> Outcome:
    """Look at frames until `stop()`, a limit of the options or the end of the sources; then write the reports.

    Raises EdgeclipError; what was kept until then is on the disk, and the next capture into the folder goes on with it.
    """
    progress = progress or Silent()
    if options.frames > FRAMES_MOST:
        raise UsageError(f"--frames {options.frames}: at most {FRAMES_MOST}", "256 to 512 are best for calibration")
    news: SimpleQueue[str] = SimpleQueue()  # of the sources, from their own threads
    feeds = [_supervised(uri, options, news.put) for uri in options.source]
    bundle = open_bundle(options.bundle)
    with ExitStack() as stack:
        folder = stack.enter_context(CaptureFolder(options.out))
        engine = load_engine(bundle, "image", backend=options.backend, threads=options.threads)
        stack.callback(engine.close)
        check_golden(engine, bundle)
        collector = Collector(folder, engine, bundle, options.frames, options.min_sharpness)
        facts = bundle.manifest.preprocess
        if folder.rows:
            progress.stage(f"reading {options.out} back", len(folder.rows))
            collector.read_back(Preprocessor(facts), progress)
        for feed in feeds:
            stack.enter_context(feed)
        progress.stage(f"capturing up to {collector.pool.capacity} frames")  # no total: it need not get there
        progress.advance(collector.pool.count)
        ahead = stack.enter_context(Ahead(feeds, functools.partial(Preprocessor, facts)))
        ended = _watch(ahead, collector, options, stop, progress, news)
        outcome = Outcome(
            out=str(options.out),
            ended=ended,
            kept=collector.pool.count,
            new=collector.new,
            seconds=round(collector.elapsed_s, 1),
            counts=collector.counts,
            dropped=sum(lane.drops for lane in ahead.lanes),
            reconnects=sum(feed.reconnects for feed in feeds),
            closest=collector.closest,
            neighbour=collector.neighbour,
            latest=collector.latest,
            enough=collector.pool.count >= BUILD_MINIMUM,
        )
        if not outcome.kept:
            raise DataError(f"{options.out}: no frame was kept; {_nothing(outcome)}", _remedy(outcome, options))
        progress.stage("contact sheet and coverage report")
        write_reports(options.out, folder.history, collector)
    progress.done()
    return outcome


def _watch(
    ahead: Ahead,
    collector: Collector,
    options: CaptureOptions,
    stop: Callable[[], bool],
    progress: Progress,
    news: SimpleQueue[str],
) -> str:
    """Look at frames until it is over. Returns why it is."""
    began_s = said_s = time.monotonic()
    pause_s = FIRST_SAID_S
    ended = ""

    def over() -> bool:
        nonlocal ended
        while not news.empty():
            progress.note(news.get())
        if stop():
            ended = "stopped"
        elif options.seconds is not None and time.monotonic() - began_s >= options.seconds:
            ended = f"{duration(options.seconds)} are over"
        elif options.patience is not None and collector.idle_s >= options.patience:
            ended = f"nothing new has come for {duration(options.patience)}"
        return bool(ended)

    try:
        for prepared in ahead.frames(over):
            before = collector.pool.count
            collector.look(prepared)
            collector.tick()
            if collector.pool.count > before:
                progress.advance()
                if collector.pool.count == collector.pool.capacity:
                    progress.note(f"{collector.pool.count} kept; from now on farther ones take the place of near ones")
            now_s = time.monotonic()
            if now_s - said_s >= pause_s:
                progress.note(str(collector))
                said_s, pause_s = now_s, min(2.0 * pause_s, SAID_MOST_S)
    finally:
        collector.tick(force=True)
        progress.note(str(collector))
    return ended or "the source has ended"


def _supervised(uri: str, options: CaptureOptions, notify: Callable[[str], None]) -> Supervisor:
    """Constructed, not opened: a misspelt source is found before an engine is loaded."""
    return Supervisor(functools.partial(open_source, uri, fps=options.fps), wait=options.wait, on_event=notify)


def _nothing(outcome: Outcome) -> str:
    counts = outcome.counts
    if not counts.seen:
        return "none came"
    return f"{counts.seen} came: {counts.blank} blank, {counts.dark} dark, {counts.blurred} blurred"


def _remedy(outcome: Outcome, options: CaptureOptions) -> str:
    counts = outcome.counts
    if counts.blurred >= max(counts.blank + counts.dark, 1):
        return f"focus the camera, or lower --min-sharpness, which is {options.min_sharpness:g}"
    return "check the source with `edgeclip run --source ... --snapshot seen.png`, or give it more time"
