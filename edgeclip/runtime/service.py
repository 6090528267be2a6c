"""One run from a Config: opens what it names, wires the pipeline, runs it until a signal, a limit or the end."""

from __future__ import annotations

import functools
import math
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import FrameType, TracebackType
from typing import Any, TextIO

from edgeclip.bundle import Bundle, Preprocess, open_bundle
from edgeclip.config import Config
from edgeclip.events.log import EventLog, Options
from edgeclip.events.media import Limits
from edgeclip.events.uris import split_sinks
from edgeclip.runtime.ahead import Ahead
from edgeclip.runtime.asked import Looking, read_asked
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.backends.plan_target import StalePlan
from edgeclip.runtime.crops import Preprocess as MakeBatch
from edgeclip.runtime.golden import ConstantGuard, check_golden
from edgeclip.runtime.labelbank import load_bank
from edgeclip.runtime.pace import Summary
from edgeclip.runtime.pipeline import Pipeline, Track
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.runtime.sinks import make_sink
from edgeclip.runtime.sinks.setting import Setting
from edgeclip.runtime.sources import open_source
from edgeclip.runtime.supervisor import Supervisor
from edgeclip.state import state_dir
from edgeclip.types import Engine, Sink, Source

HALF_LIFE_S = 0.5
TERMINAL = ("stdout:", "table:", "lines:")  # sinks that write to standard output


class StopSignals:
    """While entered, SIGINT and SIGTERM only set a flag: call it to ask. The second one acts as it always did."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self._asked

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def serve(config: Config, stdout: TextIO, notify: Callable[[str], None], stop: Callable[[], bool]) -> Summary:
    """Run until `stop()`, config.max_frames or the end of the sources. Raises EdgeclipError.

    notify: receives one line about something worth knowing; called from any thread.
    """
    feeds = [_supervised(uri, config, notify) for uri in config.source]
    bundle = open_bundle(config.bundle)
    asked = read_asked(config, bundle, notify)
    with ExitStack() as stack:
        bundle, engine = _image_engine(bundle, config, notify)
        stack.callback(engine.close)
        check_golden(engine, bundle)
        embed = functools.partial(load_bank, bundle, threads=config.threads, notices=notify)
        sources = [feed.source for feed in feeds]
        names = [source.name for source in sources]
        looking = stack.enter_context(Looking(asked, config, bundle, embed, names, notify))

        for feed in feeds:
            stack.enter_context(feed)  # opens it: its rate is known from here on
        live = any(source.live for source in sources)
        setting = Setting(stdout, bundle.manifest.name, engine.runtime, _rate(sources[0]), live)
        decisions, events = split_sinks(sink_uris(config, stdout), looking.watching is not None)
        sinks: list[Sink] = [make_sink(uri, setting) for uri in decisions]
        if events:
            sinks.append(event_log(events, config, bundle, sources, notify))
        for sink in sinks:
            sink.open()
            stack.callback(sink.close)
        pipeline = Pipeline(
            engine=engine,
            bank=looking.bank,
            scoring=bundle.manifest.scoring,
            tracks=[_track(source, config) for source in sources],
            sinks=sinks,
            top=config.top,
            check=ConstantGuard().check,
            self_test=functools.partial(check_golden, engine, bundle),
            fresh_bank=looking.fresh_bank,
            watching=looking.watching,
            unknown=looking.unknown,
        )
        make_batch = _preprocessing(bundle.manifest.preprocess, config, stack)
        ahead = stack.enter_context(Ahead(feeds, make_batch, looking.regions))
        return pipeline.run(ahead, stop, config.max_frames)


def _image_engine(bundle: Bundle, config: Config, notify: Callable[[str], None]) -> tuple[Bundle, Engine]:
    """With `recompile`, a plan for another device is compiled again first; the bundle is then another one."""
    load = functools.partial(load_engine, role="image", backend=config.backend, threads=config.threads)
    try:
        return bundle, load(bundle)
    except StalePlan as stale:
        if not config.recompile:
            raise
        from edgeclip.compile.bundles import compile_bundle

        notify(f"{stale.message}: compiling it again, which takes minutes")
        compile_bundle(bundle, runtime=stale.runtime)
        bundle = open_bundle(bundle.origin)
        return bundle, load(bundle)


def _preprocessing(facts: Preprocess, config: Config, stack: ExitStack) -> Callable[[], MakeBatch]:
    """What makes a preprocessor; those on the GPU are closed with `stack`."""
    if not config.gpu_preprocess:
        return lambda: Preprocessor(facts)
    from edgeclip.cuda import first_gpu
    from edgeclip.runtime.preprocess_gpu import GpuPreprocessor, compile_kernel

    cuda = first_gpu()
    binary = compile_kernel(cuda)

    def make() -> MakeBatch:
        preprocessor = GpuPreprocessor(facts, cuda, binary)
        stack.callback(preprocessor.close)
        return preprocessor

    return make


def sink_uris(config: Config, stdout: TextIO) -> list[str]:
    """The sinks of a run: one that writes to standard output, and those the user named."""
    uris = list(config.sink)
    if config.record:
        uris.append(f"video:{config.record}")
    if config.snapshot:
        uris.append(f"snapshot:{config.snapshot}")
    if config.json:
        return ["stdout:", *(uri for uri in uris if uri != "stdout:")]
    if any(uri.startswith(TERMINAL) for uri in uris):
        return uris
    return ["table:" if _can_draw(stdout) else "lines:", *uris]


def _can_draw(stdout: TextIO) -> bool:
    unicode = (stdout.encoding or "").lower().replace("-", "") == "utf8"
    return stdout.isatty() and unicode and os.environ.get("TERM", "dumb") != "dumb"


def _supervised(uri: str, config: Config, notify: Callable[[str], None]) -> Supervisor:
    """Constructed, not opened: a misspelt source is found before an engine is loaded."""
    construct = functools.partial(
        open_source,
        uri,
        fps=config.fps,
        realtime=config.realtime,
        open_timeout_s=config.open_timeout_s,
        read_timeout_s=config.read_timeout_s,
    )
    return Supervisor(construct, wait=config.wait, on_event=notify)


def _track(source: Source, config: Config) -> Track:
    """Single pictures have nothing to do with each other; a film played as fast as it goes has its own clock."""
    picture = not source.live and source.fps is None
    half_life_s = config.smoothing if config.smoothing is not None else 0.0 if picture else HALF_LIFE_S
    return Track(half_life_s, _step_ns(source))


def _step_ns(source: Source) -> int | None:
    """Between two frames of a film that is played as fast as it goes."""
    return None if source.live or source.fps is None else round(1e9 / source.fps)


def event_log(
    uris: Sequence[str], config: Config, bundle: Bundle, sources: Sequence[Source], notify: Callable[[str], None]
) -> EventLog:
    """Not opened. Raises EdgeclipError for a sink that cannot be."""
    limits = Limits(config.clip_before_s, config.clip_after_s, megabytes=config.media_mb, days=config.media_days)
    options = Options(config.give_up_s, config.outbox_mb, limits if config.media_mb else None, _step_ns(sources[0]))
    return EventLog(uris, bundle, state_dir(), options, notify)


def _rate(source: Source) -> float | None:
    """Frames per second that reach the pipeline, where the source knows its own."""
    if source.fps is None or source.max_fps is None:
        return source.fps
    if source.live:
        return min(source.fps, source.max_fps)
    return source.fps / math.ceil(source.fps / source.max_fps - 1e-6)  # every k-th frame
