"""One run from a Config: opens what it names, wires the pipeline, runs it until a signal, a limit or the end."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple, TextIO

from edgeclip.bundle import Bundle, Preprocess, open_bundle
from edgeclip.config import Config
from edgeclip.errors import ConfigError
from edgeclip.runtime.ahead import Ahead
from edgeclip.runtime.asked import Looking, read_asked
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.backends.plan_target import StalePlan
from edgeclip.runtime.crops import Preprocess as MakeBatch
from edgeclip.runtime.golden import ConstantGuard, check_golden
from edgeclip.runtime.heartbeat import Heartbeat
from edgeclip.runtime.journal import WARNING, Notice
from edgeclip.runtime.labelbank import load_bank
from edgeclip.runtime.pace import Summary
from edgeclip.runtime.pipeline import Pipeline, Track
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.runtime.sinks import make_sink
from edgeclip.runtime.sinks.setting import Setting
from edgeclip.runtime.sources import open_source
from edgeclip.runtime.sources.address import redacted
from edgeclip.runtime.supervisor import Supervisor
from edgeclip.runtime.thermal import Thermal
from edgeclip.types import Engine, Sink, Source

HALF_LIFE_S = 0.5
TERMINAL = ("stdout:", "table:", "lines:")  # sinks that write to standard output


class Prepared(NamedTuple):
    """What a run needs besides its cameras and sinks: all that can be tried while another run is using those."""

    feeds: list[Supervisor]  # not opened
    bundle: Bundle
    engine: Engine  # it has passed the self-test
    looking: Looking  # its watch over the files runs


def prepare(config: Config, notify: Callable[[str], None], stack: ExitStack) -> Prepared:
    """stack: closes what was opened. Raises EdgeclipError."""
    feeds = [_supervised(uri, config, notify) for uri in config.source]
    bundle = open_bundle(config.bundle)
    asked = read_asked(config, bundle, notify)
    bundle, engine = _image_engine(bundle, config, notify)
    stack.callback(engine.close)
    check_golden(engine, bundle)
    embed = functools.partial(load_bank, bundle, threads=config.threads)
    names = [feed.source.name for feed in feeds]
    looking = stack.enter_context(Looking(asked, config, bundle, embed, names, notify))
    return Prepared(feeds, bundle, engine, looking)


def rehearse(config: Config, stdout: TextIO, notify: Callable[[str], None]) -> None:
    """Try all of a configuration that does not need the cameras. Raises EdgeclipError."""
    if not config.source:
        raise ConfigError("no source to watch", "name one under `source:`")
    with ExitStack() as stack:
        prepared = prepare(config, notify, stack)
        setting = Setting(stdout, prepared.bundle.manifest.name, prepared.engine.runtime, None, True)
        for uri in sink_uris(config, stdout):
            make_sink(uri, setting)


def serve(
    config: Config,
    stdout: TextIO,
    notify: Callable[[str], None],
    stop: Callable[[], bool],
    heartbeat: Heartbeat | None = None,
    watch_of_bundle: Sink | None = None,
) -> Summary:
    """Run until `stop()`, config.max_frames or the end of the sources. Raises EdgeclipError.

    notify: receives one line about something worth knowing; called from any thread.
    stop: asked by the frame loop, at least every fifth of a second.
    """
    with ExitStack() as stack:
        feeds, bundle, engine, looking = prepare(config, notify, stack)
        for feed in feeds:
            stack.enter_context(feed)  # opens it: its rate is known from here on
        sources = [feed.source for feed in feeds]
        live = any(source.live for source in sources)
        setting = Setting(stdout, bundle.manifest.name, engine.runtime, _rate(sources[0]), live)
        sinks: list[Sink] = []
        for uri in sink_uris(config, stdout):
            sink = make_sink(uri, setting)
            sink.open()
            stack.callback(sink.close)
            sinks.append(sink)
        if heartbeat is not None:
            heartbeat.begin(bundle.manifest.name, feeds)
            sinks.append(heartbeat)
        if watch_of_bundle is not None:
            sinks.append(watch_of_bundle)
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
        thermal = stack.enter_context(Thermal(ahead.lanes, notify, limit_c=config.max_temperature_c))
        if heartbeat is not None:
            heartbeat.extra = thermal.__str__
        summary = pipeline.run(ahead, stop, config.max_frames)
        return replace(summary, joules_per_frame=thermal.joules_per_frame)


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
    name = redacted(uri)
    return Supervisor(
        construct, wait=config.wait, on_event=lambda text: notify(Notice(text, WARNING, EDGECLIP_SOURCE=name))
    )


def _track(source: Source, config: Config) -> Track:
    """Single pictures have nothing to do with each other; a film played as fast as it goes has its own clock."""
    picture = not source.live and source.fps is None
    half_life_s = config.smoothing if config.smoothing is not None else 0.0 if picture else HALF_LIFE_S
    step_ns = None if source.live or source.fps is None else round(1e9 / source.fps)
    return Track(half_life_s, step_ns)


def _rate(source: Source) -> float | None:
    """Frames per second that reach the pipeline, where the source knows its own."""
    if source.fps is None or source.max_fps is None:
        return source.fps
    if source.live:
        return min(source.fps, source.max_fps)
    return source.fps / math.ceil(source.fps / source.max_fps - 1e-6)  # every k-th frame
