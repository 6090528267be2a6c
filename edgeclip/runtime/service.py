"""One run from a Config: opens what it names, wires the pipeline, runs it until a signal, a limit or the end."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TextIO

from edgeclip.arenas import keep_frames_apart
from edgeclip.bundle import Bundle, Preprocess, open_bundle
from edgeclip.config import Config
from edgeclip.errors import ConfigError
from edgeclip.events.log import EventLog, Options
from edgeclip.events.media import Limits
from edgeclip.events.uris import split_sinks
from edgeclip.metrics.unmetered import Unmetered
from edgeclip.registry import resolve
from edgeclip.runtime.ahead import Ahead
from edgeclip.runtime.asked import Looking, read_asked
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.backends.plan_target import StalePlan
from edgeclip.runtime.crops import Preprocess as MakeBatch
from edgeclip.runtime.feeds import Feeds, Wanted
from edgeclip.runtime.golden import ConstantGuard, check_golden, load_golden
from edgeclip.runtime.heartbeat import Heartbeat
from edgeclip.runtime.labelbank import load_bank
from edgeclip.runtime.pace import Summary
from edgeclip.runtime.pipeline import Pipeline, Track
from edgeclip.runtime.preprocess import Preprocessor, Scratch
from edgeclip.runtime.sinks import make_sink
from edgeclip.runtime.sinks.setting import Setting
from edgeclip.runtime.supervisor import Supervisor
from edgeclip.runtime.taughtlabels import TaughtLabels
from edgeclip.runtime.thermal import Thermal
from edgeclip.state import state_dir
from edgeclip.types import Engine, Sink, Source

if TYPE_CHECKING:
    from edgeclip.metrics.meter import Meter

HALF_LIFE_S = 0.5
TERMINAL = ("stdout:", "table:", "lines:")  # sinks that write to standard output


class Prepared(NamedTuple):
    """What a run needs besides its cameras and sinks: all that can be tried while another run is using those."""

    feeds: Sequence[Supervisor]  # not opened, but for those that were kept
    bundle: Bundle
    engine: Engine  # it has passed the self-test
    looking: Looking  # its watch over the files runs


def prepare(config: Config, notify: Callable[[str], None], stack: ExitStack, feeds: Sequence[Supervisor]) -> Prepared:
    """stack: closes what was opened. Raises EdgeclipError."""
    bundle = open_bundle(config.bundle)
    asked = read_asked(config, bundle, notify)
    bundle, engine = _image_engine(bundle, config, notify)
    stack.callback(engine.close)
    check_golden(engine, bundle)
    embed = functools.partial(load_bank, bundle, threads=config.threads)
    names = [feed.source.name for feed in feeds]
    taught = _taught(bundle, notify) if config.taught else None
    looking = stack.enter_context(Looking(asked, config, bundle, embed, names, notify, taught))
    return Prepared(feeds, bundle, engine, looking)


def rehearse(config: Config, stdout: TextIO, notify: Callable[[str], None]) -> None:
    """Try all of a configuration that does not need the cameras. Raises EdgeclipError."""
    if not config.source:
        raise ConfigError("no source to watch", "name one under `source:`")
    with ExitStack() as stack:
        prepared = prepare(config, notify, stack, Feeds(notify).supervised(_wanted(config)))
        setting = Setting(stdout, prepared.bundle.manifest.name, prepared.engine.runtime, None, True)
        _sinks(config, stdout, prepared, setting, notify)


def serve(
    config: Config,
    stdout: TextIO,
    notify: Callable[[str], None],
    stop: Callable[[], bool],
    heartbeat: Heartbeat | None = None,
    watch_of_bundle: Sink | None = None,
    kept: Feeds | None = None,
) -> Summary:
    """Run until `stop()`, config.max_frames or the end of the sources. Raises EdgeclipError.

    notify: receives one line about something worth knowing; called from any thread.
    stop: asked by the frame loop, at least every fifth of a second.
    kept: live sources of the run before, which stay open for the next one where its configuration leaves them as they
    are; None: all are closed at the end.
    """
    with ExitStack() as stack:
        meter = _meter(config, stack)
        opened = kept or stack.enter_context(Feeds(notify))
        prepared = prepare(config, notify, stack, opened.supervised(_wanted(config)))
        feeds, bundle, engine, looking = prepared
        stack.callback(opened.rest)
        opened.open()  # their rates are known from here on
        sources = [feed.source for feed in feeds]
        live = any(source.live for source in sources)
        if live:  # films end, and are read as fast as memory lets them
            keep_frames_apart()
        setting = Setting(stdout, bundle.manifest.name, engine.runtime, _rate(sources[0]), live)
        sinks = _sinks(config, stdout, prepared, setting, notify)
        for sink in sinks:
            sink.open()
            stack.callback(sink.close)
        if heartbeat is not None:
            heartbeat.begin(bundle.manifest.name, feeds)
            sinks.append(heartbeat)
        if watch_of_bundle is not None:
            sinks.append(watch_of_bundle)
        meter.begin(bundle, engine, feeds, sinks)
        pipeline = Pipeline(
            engine=meter.engine(engine),
            bank=looking.bank,
            scoring=bundle.manifest.scoring,
            tracks=[_track(source, config) for source in sources],
            sinks=meter.around(sinks),
            top=config.top,
            check=ConstantGuard().check,
            # From memory: a disk that fails meanwhile is no fault of the engine's.
            self_test=functools.partial(check_golden, engine, bundle, golden=load_golden(bundle)),
            fresh_bank=meter.deciding(looking.fresh_bank),
            watching=looking.watching,
            unknown=looking.unknown,
        )
        make_batch = meter.preprocessing(_preprocessing(bundle.manifest.preprocess, config, stack))
        ahead = stack.enter_context(Ahead(feeds, make_batch, looking.regions))
        thermal = stack.enter_context(Thermal(ahead.lanes, notify, limit_c=config.max_temperature_c))
        if heartbeat is not None:
            heartbeat.extra = thermal.__str__
            stack.callback(heartbeat.end)  # before all else is closed
        summary = pipeline.run(ahead, stop, config.max_frames)
        return replace(summary, joules_per_frame=thermal.joules_per_frame)


def _meter(config: Config, stack: ExitStack) -> Meter | Unmetered:
    """Answers from here on, until `stack` is closed. Raises UsageError or ConfigError."""
    if config.metrics in (None, "off"):
        return Unmetered()
    from edgeclip.metrics.meter import Meter

    meter = Meter()
    server = resolve("edgeclip.metrics.server:MetricsServer", extra="metrics", what="--metrics")
    stack.enter_context(server(config.metrics, meter))
    return meter


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


def _preprocessing(facts: Preprocess, config: Config, stack: ExitStack) -> Callable[[Scratch], MakeBatch]:
    """What makes a preprocessor; those on the GPU are closed with `stack`."""
    if not config.gpu_preprocess:
        return functools.partial(Preprocessor, facts)
    from edgeclip.cuda import first_gpu
    from edgeclip.runtime.preprocess_gpu import GpuPreprocessor, compile_kernel

    cuda = first_gpu()
    binary = compile_kernel(cuda)

    def make(_: Scratch) -> MakeBatch:
        preprocessor = GpuPreprocessor(facts, cuda, binary)
        stack.callback(preprocessor.close)
        return preprocessor

    return make


def _sinks(
    config: Config, stdout: TextIO, prepared: Prepared, setting: Setting, notify: Callable[[str], None]
) -> list[Sink]:
    """Not opened. Raises EdgeclipError for one that cannot be."""
    decisions, events = split_sinks(sink_uris(config, stdout), prepared.looking.watching is not None)
    sinks: list[Sink] = [make_sink(uri, setting) for uri in decisions]
    if events:
        limits = Limits(config.clip_before_s, config.clip_after_s, megabytes=config.media_mb, days=config.media_days)
        step_ns = _step_ns(prepared.feeds[0].source)
        options = Options(config.give_up_s, config.outbox_mb, limits if config.media_mb else None, step_ns)
        sinks.append(EventLog(events, prepared.bundle, state_dir(), options, notify))
    return sinks


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


def _wanted(config: Config) -> list[Wanted]:
    return [
        Wanted(uri, config.fps, config.realtime, config.open_timeout_s, config.read_timeout_s, config.wait)
        for uri in config.source
    ]


def _taught(bundle: Bundle, notify: Callable[[str], None]) -> TaughtLabels | None:
    """None, aloud, on a device without a place for what is taught."""
    try:
        state = state_dir()
    except ConfigError as error:
        notify(f"no taught labels: {error.message}")
        return None
    return TaughtLabels(bundle, state, notify)


def _track(source: Source, config: Config) -> Track:
    """Single pictures have nothing to do with each other; a film played as fast as it goes has its own clock."""
    picture = not source.live and source.fps is None
    half_life_s = config.smoothing if config.smoothing is not None else 0.0 if picture else HALF_LIFE_S
    return Track(half_life_s, _step_ns(source))


def _step_ns(source: Source) -> int | None:
    """Between two frames of a film that is played as fast as it goes."""
    return None if source.live or source.fps is None else round(1e9 / source.fps)


def _rate(source: Source) -> float | None:
    """Frames per second that reach the pipeline, where the source knows its own."""
    if source.fps is None or source.max_fps is None:
        return source.fps
    if source.live:
        return min(source.fps, source.max_fps)
    return source.fps / math.ceil(source.fps / source.max_fps - 1e-6)  # every k-th frame
