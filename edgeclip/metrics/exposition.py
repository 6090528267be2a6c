"""A meter in Prometheus's terms, put together when it is scraped. docs/events.md lists the names."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from edgeclip import __version__
from edgeclip.events.log import EventLog
from edgeclip.metrics.histogram import cumulative
from edgeclip.metrics.meter import Meter
from edgeclip.runtime.board import Board


class Exposition:
    """A collector of prometheus_client."""

    def __init__(self, meter: Meter, board: Board) -> None:
        self._meter, self._board = meter, board

    def collect(self) -> Iterator[Metric]:
        yield from self._frames()
        yield from self._stages()
        yield from self._watches()
        yield from self._sources()
        if self._meter.events is not None:
            yield from _events(self._meter.events)
        yield from self._bundle()
        yield from self._device()

    def _frames(self) -> Iterator[Metric]:
        frames = CounterMetricFamily("edgeclip_frames", "frames that a source gave", labels=["source"])
        decisions = CounterMetricFamily("edgeclip_decisions", "frames that were decided on", labels=["source"])
        drops = CounterMetricFamily("edgeclip_frames_dropped", "frames that newer ones replaced", labels=["source"])
        for source, count in list(self._meter.decisions.items()):
            dropped = self._meter.last[source].drops
            frames.add_metric([source], count + dropped)
            decisions.add_metric([source], count)
            drops.add_metric([source], dropped)
        yield from (frames, decisions, drops)
        age = HistogramMetricFamily("edgeclip_frame_age_seconds", "capture to decision")
        buckets, total = cumulative([self._meter.ages])
        age.add_metric([], buckets, total)
        yield age

    def _stages(self) -> Iterator[Metric]:
        stages = HistogramMetricFamily("edgeclip_stage_seconds", "time a stage takes for a frame", labels=["stage"])
        meter = self._meter
        for stage, histograms in (
            ("preprocess", list(meter.preprocess_s)),
            ("engine", [meter.engine_s]),
            ("decision", [meter.decision_s]),
            ("sinks", [meter.sinks_s]),
        ):
            if histograms:
                buckets, total = cumulative(histograms)
                stages.add_metric([stage], buckets, total)
        yield stages

    def _watches(self) -> Iterator[Metric]:
        on = GaugeMetricFamily("edgeclip_watch_on", "1 where a watch holds", labels=["watch", "source"])
        probability = GaugeMetricFamily(
            "edgeclip_watch_probability", "of a watch, on the last frame", labels=["watch", "source"]
        )
        for source, decision in list(self._meter.last.items()):
            for watch in decision.watches:
                on.add_metric([watch.name, source], float(watch.on))
                probability.add_metric([watch.name, source], watch.probability)
        yield from (on, probability)

    def _sources(self) -> Iterator[Metric]:
        streaming = GaugeMetricFamily("edgeclip_source_streaming", "1 where a source gives frames", labels=["source"])
        reconnects = CounterMetricFamily(
            "edgeclip_source_reconnects", "how often a source came back", labels=["source"]
        )
        stuck = GaugeMetricFamily(
            "edgeclip_source_stuck_reads", "reads that hang in the driver, and were left", labels=["source"]
        )
        for feed in self._meter.feeds:
            stuck.add_metric([feed.source.name], feed.stuck)
            streaming.add_metric([feed.source.name], float(feed.state == "streaming"))
            reconnects.add_metric([feed.source.name], feed.reconnects)
        yield from (streaming, reconnects, stuck)

    def _bundle(self) -> Iterator[Metric]:
        bundle, ref = self._meter.bundle, self._meter.ref
        if bundle is None or ref is None:
            return
        about = {"version": __version__, "bundle": ref.name, "digest": ref.digest, "space": bundle.manifest.space}
        yield InfoMetricFamily("edgeclip_engine", "what decides", value={**about, "runtime": self._meter.runtime})

    def _device(self) -> Iterator[Metric]:
        reading = self._board.read()
        heat = GaugeMetricFamily("edgeclip_temperature_celsius", "of a thermal zone", labels=["zone"])
        for zone in reading.zones:
            heat.add_metric([zone.name], zone.temperature_c)
        yield heat
        power = GaugeMetricFamily("edgeclip_power_watts", "of the whole board")
        if reading.power_w is not None:
            power.add_metric([], reading.power_w)
        yield power


def _events(log: EventLog) -> Iterator[Metric]:
    yield CounterMetricFamily("edgeclip_events", "events that began", value=log.recorder.events)
    writer = log.writer
    if writer is None:
        return
    yield CounterMetricFamily("edgeclip_messages_acknowledged", "messages put on disk", value=writer.acknowledged)
    yield CounterMetricFamily("edgeclip_messages_refused", "messages lost: disk and memory full", value=writer.refused)
    yield CounterMetricFamily("edgeclip_outbox_failures", "commits that failed", value=writer.failures)
    yield GaugeMetricFamily("edgeclip_messages_waiting", "messages not yet on disk", value=writer.waiting)
    outbox = GaugeMetricFamily("edgeclip_outbox_messages", "messages in the outbox", labels=["sink", "state"])
    try:
        depths = log.outbox.depths()
    except sqlite3.Error:  # the disk is ill: failures says so
        depths = {}
    for courier in log.couriers:
        for state in ("pending", "dead"):
            outbox.add_metric([courier.name, state], depths.get((courier.name, state), 0))
    yield outbox
    delivered = CounterMetricFamily("edgeclip_messages_delivered", "messages a sink has had", labels=["sink"])
    dead = CounterMetricFamily("edgeclip_messages_dead", "messages a sink refused for good", labels=["sink"])
    reconnects = CounterMetricFamily("edgeclip_sink_reconnects", "how often a sink came back", labels=["sink"])
    connected = GaugeMetricFamily("edgeclip_sink_connected", "1 where a sink takes messages", labels=["sink"])
    for courier in log.couriers:
        delivered.add_metric([courier.name], courier.delivered)
        dead.add_metric([courier.name], courier.dead)
        reconnects.add_metric([courier.name], courier.reconnects)
        connected.add_metric([courier.name], float(courier.state == "connected"))
    yield from (delivered, dead, reconnects, connected)
    failed = log.media.failed if log.media is not None else 0
    yield CounterMetricFamily("edgeclip_media_failures", "snapshots and clips not written", value=failed)
