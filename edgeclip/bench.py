"""What each stage costs on this machine, and how near the pipeline comes to the bare engine.

Both are measured in turns in one run, so that a busy or throttling machine slows both alike, and compared turn by turn.
"""

from __future__ import annotations

import functools
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

import edgeclip
from edgeclip.bundle import Bundle, open_bundle
from edgeclip.errors import EdgeclipError, SourceError
from edgeclip.progress import Progress, Silent
from edgeclip.runtime.ahead import Ahead
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.background import load_background
from edgeclip.runtime.decision import Smoother, rank
from edgeclip.runtime.evidence import Unknown
from edgeclip.runtime.golden import ConstantGuard, check_golden, load_golden
from edgeclip.runtime.labelbank import load_bank, usual_labels
from edgeclip.runtime.labels import parse_labels
from edgeclip.runtime.pace import Summary
from edgeclip.runtime.pipeline import Pipeline, Track
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.runtime.similarity import score, similarity
from edgeclip.runtime.sinks import make_sink
from edgeclip.runtime.sinks.setting import Setting
from edgeclip.runtime.sources import open_source
from edgeclip.runtime.supervisor import Supervisor
from edgeclip.runtime.watches import MISSED
from edgeclip.types import Decision, Embeddings, Engine, Frame, Pixels, Sink, Source, TextBank

ROUNDS = 5
SECONDS = 10.0
WARM_UP_FRAMES = 12  # more than a source reads ahead before the engine's turn begins
APART_CALLS = 100  # of the stages that are timed by themselves, per round
TOP = 5
HALF_LIFE_S = 0.5
START_UP_LIMIT_S = 120.0


class Stage(msgspec.Struct, frozen=True):
    """Time one frame takes in a stage, median and 95th percentile."""

    p50_ms: float
    p95_ms: float


class BenchResult(msgspec.Struct, frozen=True):
    """What `edgeclip bench` reports.

    pipeline_fps, engine_fps, host_fps: frames per second of everything together, of the engine with nothing beside it,
    and of reading and preprocessing with no engine; medians of the rounds. ratio: pipeline over engine, the median of
    each round's own. slowest: "engine", or "host" where reading and preprocessing are slower than it.
    stages: source, preprocess, engine and sinks as they ran in the pipeline, so with the others beside them;
    similarity and decision by themselves, on that run's embeddings. frames: decided in the timed part.
    rss_mb: resident memory at the end. startup_s: `edgeclip run` from its start to its first decision, warm caches.
    """

    pipeline_fps: float
    engine_fps: float
    host_fps: float
    ratio: float
    slowest: str
    stages: dict[str, Stage]
    frames: int
    labels: int
    drops: int
    rss_mb: float
    startup_s: float
    bundle: str
    runtime: str
    source: str
    cores: int

    @property
    def slowest_stage(self) -> str:
        """The name of the stage that takes longest for a frame, by its median, with the others beside it."""
        return max(self.stages, key=lambda name: self.stages[name].p50_ms)

    @property
    def limit(self) -> str:
        """One line: which part sets the pace, and so what would make it faster."""
        if self.slowest == "engine":
            return (
                f"the engine limits: it runs {self.engine_fps:.1f} times a second, and reading and preprocessing could "
                f"feed it {self.host_fps:.1f}; more --threads or a smaller engine would make it faster"
            )
        parts = {name: self.stages[name].p50_ms for name in ("source", "preprocess")}
        slower = max(parts, key=lambda name: parts[name])
        remedy = {"source": "smaller pictures or a faster source", "preprocess": "smaller pictures"}[slower]
        return (
            f"the host limits: reading and preprocessing give {self.host_fps:.1f} frames a second, and the engine "
            f"could run {self.engine_fps:.1f} times; mostly {slower}, so {remedy} would make it faster"
        )


class Times:
    """Durations of one stage's calls."""

    def __init__(self) -> None:
        self.taken_ns: list[int] = []

    def of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, timed."""
        add, now = self.taken_ns.append, time.perf_counter_ns

        def timed(*arguments: Any) -> Any:
            began = now()
            result = function(*arguments)
            add(now() - began)
            return result

        return timed

    def stage(self) -> Stage:
        """0 where it was never called."""
        times_ms = np.array(self.taken_ns or [0]) / 1e6
        return Stage(round(float(np.percentile(times_ms, 50)), 4), round(float(np.percentile(times_ms, 95)), 4))


class TimedSource:
    """A source, its read() timed. All but real devices are read as fast as they go, and over again at their end."""

    def __init__(self, source: Source, times: Times) -> None:
        self.name = source.name
        self.live = source.live and not source.paced
        self.paced = False
        self.fps = source.fps
        self.max_fps = source.max_fps
        self.close = source.close
        self._source = source
        self._read: Callable[[], Pixels | None] = times.of(source.read)

    def open(self) -> None:
        self._source.open()
        self.fps = self._source.fps

    def read(self) -> Pixels | None:
        pixels = self._read()
        if pixels is None and not self.live:
            self._source.close()
            self._source.open()
            return self._read()
        return pixels


class TimedEngine:
    """An engine, its run() timed."""

    def __init__(self, engine: Engine, times: Times) -> None:
        self.input_shape, self.input_dtype, self.runtime = engine.input_shape, engine.input_dtype, engine.runtime
        self.run: Callable[[npt.NDArray[Any]], Embeddings] = times.of(engine.run)
        self.close = engine.close


class TimedSink:
    """A sink, its write() timed."""

    def __init__(self, sink: Sink, times: Times) -> None:
        self.open, self.close = sink.open, sink.close
        self.write: Callable[[Decision, Frame], None] = times.of(sink.write)


def run_bench(
    bundle: str | Path | None = None,
    source: str = "demo",
    *,
    labels: str | Path | None = None,
    backend: str | None = None,
    threads: int | None = None,
    seconds: float = SECONDS,
    rounds: int = ROUNDS,
    progress: Progress | None = None,
) -> BenchResult:
    """Measure the pipeline for about `seconds`, the bare engine and the source as long, in `rounds` turns each.

    labels: a label file; None for the built-in everyday ones. Raises EdgeclipError as `edgeclip run` would.
    """
    progress = progress or Silent()
    opened = open_bundle(bundle)
    some = parse_labels(labels) if labels else usual_labels(opened)
    open_source(source)  # a misspelt one is found before an engine is loaded
    bank = load_bank(opened, some, threads=threads, notices=progress.note)
    engine = load_engine(opened, "image", backend=backend, threads=threads)
    try:
        check_golden(engine, opened)
        bench = _Bench(opened, engine, bank, source, seconds / rounds)
        progress.stage(f"measuring {opened.manifest.name} on {bench.name}", rounds)
        for _ in range(rounds):
            bench.take_turns()
            progress.advance()
        memory_mb = resident_mb()
    finally:
        engine.close()
    command = ["--bundle", opened.origin, "--source", source]
    for flag, value in (("--labels", labels), ("--backend", backend), ("--threads", threads)):
        command += [flag, str(value)] if value else []
    return bench.result(round(memory_mb, 1), round(start_up_s(command), 3))


class _Bench:
    """Turns of the bare engine and of the pipeline, and their times so far. turn_s: how long each turn is."""

    def __init__(self, bundle: Bundle, engine: Engine, bank: TextBank, source: str, turn_s: float) -> None:
        self.name = open_source(source).name
        self._bundle = bundle
        self._engine = engine
        self._bank = bank
        self._null = load_background(bundle, functools.partial(load_bank, bundle)).null
        self._source = source
        self._turn_s = turn_s
        frames = load_golden(bundle).frames[:1]
        self._batch = np.repeat(frames, engine.input_shape[0], axis=0)
        self._times = {name: Times() for name in ("source", "preprocess", "engine", "similarity", "decision", "sinks")}
        self._engine_fps: list[float] = []
        self._host_fps: list[float] = []
        self._pipeline_fps: list[float] = []
        self._frames = self._drops = 0

    def take_turns(self) -> None:
        self._engine_fps.append(self._bare())
        self._apart()
        summary = self._pipeline()
        self._pipeline_fps.append(summary.fps)
        self._frames += summary.frames
        self._drops += summary.drops

    def result(self, rss_mb: float, startup_s: float) -> BenchResult:
        stages = {name: times.stage() for name, times in self._times.items()}
        engine_fps, host_fps = float(np.median(self._engine_fps)), float(np.median(self._host_fps))
        ratios = np.array(self._pipeline_fps) / np.array(self._engine_fps)
        return BenchResult(
            pipeline_fps=round(float(np.median(self._pipeline_fps)), 2),
            engine_fps=round(engine_fps, 2),
            host_fps=round(host_fps, 2),
            ratio=round(float(np.median(ratios)), 4),
            slowest="engine" if engine_fps <= host_fps else "host",
            stages=stages,
            frames=self._frames,
            labels=len(self._bank.names),
            drops=self._drops,
            rss_mb=rss_mb,
            startup_s=startup_s,
            bundle=self._bundle.manifest.name,
            runtime=self._engine.runtime,
            source=self.name,
            cores=len(os.sched_getaffinity(0)),
        )

    def _bare(self) -> float:
        """Frames per second of the engine alone."""
        run, batch, now = self._engine.run, self._batch, time.perf_counter
        for _ in range(WARM_UP_FRAMES):
            run(batch)
        count, began = 0, now()
        while now() - began < self._turn_s:
            run(batch)
            count += 1
        return count / (now() - began)

    def _host(self, ahead: Ahead) -> float:
        """Frames per second that are ready for an engine when none holds them up."""
        for _ in zip(range(WARM_UP_FRAMES), ahead.frames(_never), strict=False):
            pass
        began_s = time.perf_counter()
        deadline_s = began_s + self._turn_s
        count = sum(1 for _ in ahead.frames(lambda: time.perf_counter() >= deadline_s))
        return count / (time.perf_counter() - began_s)

    def _apart(self) -> None:
        """Time the stages that are too short to be worth a clock in the frame loop."""
        rows = self._engine.run(self._batch)[:1].copy()
        similar = self._times["similarity"].of(similarity)
        decide = self._times["decision"].of(self._decide)
        smoother, scoring = Smoother(HALF_LIFE_S), self._bundle.manifest.scoring
        row = np.empty((1, len(self._bank.names)), np.float32)
        for step in range(APART_CALLS):
            similar(rows, self._bank.embeddings, row)
            decide(score(row, scoring, out=row)[0], smoother, step)

    @staticmethod
    def _decide(scores: npt.NDArray[np.float32], smoother: Smoother, step: int) -> None:
        rank(smoother.update(scores, step * 33_000_000), TOP)

    def _pipeline(self) -> Summary:
        """Everything together, its JSON lines written to the null device."""
        times, facts = self._times, self._bundle.manifest.preprocess

        def timed_source() -> Source:
            return TimedSource(open_source(self._source), times["source"])

        with ExitStack() as stack:
            feed = stack.enter_context(Supervisor(timed_source))
            nowhere = stack.enter_context(open(os.devnull, "w"))
            live = feed.source.live
            setting = Setting(nowhere, self._bundle.manifest.name, self._engine.runtime, feed.source.fps, live)
            pipeline = Pipeline(
                engine=TimedEngine(self._engine, times["engine"]),
                bank=self._bank,
                scoring=self._bundle.manifest.scoring,
                tracks=[Track(HALF_LIFE_S, None)],
                sinks=[TimedSink(make_sink("stdout:", setting), times["sinks"])],
                top=TOP,
                check=ConstantGuard().check,
                self_test=_nothing,
                fresh_bank=_nothing,
                unknown=Unknown(self._null, MISSED),
            )
            ahead = stack.enter_context(
                Ahead([feed], lambda scratch: times["preprocess"].of(Preprocessor(facts, scratch)))
            )
            self._host_fps.append(self._host(ahead))
            pipeline.run(ahead, _never, WARM_UP_FRAMES)
            deadline_s = time.perf_counter() + self._turn_s
            summary = pipeline.run(ahead, lambda: time.perf_counter() >= deadline_s)
        if summary.frames < 2:
            raise SourceError(
                f"{self.name} gave {summary.frames} frames in {self._turn_s:.1f} s",
                "measure longer, or a faster source",
            )
        return summary


def resident_mb() -> float:
    """Memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def start_up_s(options: list[str]) -> float:
    """From the start of an `edgeclip run` to its first decision. Raises EdgeclipError where it makes none."""
    environment = dict(os.environ)
    root = str(Path(edgeclip.__file__).resolve().parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "edgeclip", "run", "--json", "--max-frames", "1", *options]
    began_s = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    with child:
        if child.stdout is None or child.stderr is None:
            raise EdgeclipError("`edgeclip run` has no standard output")
        ready, _, _ = select.select([child.stdout], [], [], START_UP_LIMIT_S)
        line = child.stdout.readline() if ready else b""
        taken_s = time.perf_counter() - began_s
        if not line:
            child.kill()
            said = child.stderr.read().decode(errors="replace").strip().splitlines()
            raise EdgeclipError("`edgeclip run` made no decision: " + (said[-1] if said else "it said nothing"))
        child.communicate()
    return taken_s


def _never() -> bool:
    return False


def _nothing() -> None:
    return None
