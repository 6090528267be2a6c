"""A long run with random faults: is it as young, as small and as honest at the end as at the beginning?

    python benchmarks/soak_run.py --hours 0.5        (make soak-run HOURS=0.5)

The real `edgeclip run`, with two watches, on a real RTSP server on loopback that is stalled, cut, garbled, slowed,
flooded and taken away at random. Events go to a JSON lines file, to a webhook that fails now and then, and to a
mosquitto (where there is one) that is restarted. The age of every decision is read from its own JSON line; memory,
descriptors and threads from /proc; what the outbox acknowledged, from outside. At the end all of that must have reached
every sink.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from faults import Fault, faults
from observed import ObservedRun, Taken, percentile
from rtsp_server import Picture, RtspServer
from soak_events import WATCHES, Broker, Observer, Received, Receiver, free_port

from edgeclip.runtime.sources.demo import photographs

FPS = 25
SIZE = (320, 240)
SCENE_S = 1.5
AGE_LIMIT_PERIODS = 2.0  # at the 99th percentile
GROWTH_LIMIT_MB = 5.0  # per million frames, after the warm-up
RESOLVED_MB = 3.0  # less than this in all is noise of the allocator, and a short run cannot tell it from growth
FLAT = 1  # descriptors and threads, median of the last third beside that of the first
WARM_UP_S = 1200.0  # at most, and a quarter of the run
DRAIN_LIMIT_S = 120.0


def scenes() -> list[Picture]:
    found = dict(photographs())
    return [cv2.resize(cv2.imread(str(found[name])), SIZE) for name in ("cat", "coffee cup")]


class Chaos:
    """Faults of the camera and restarts of the broker, one by one at random moments. done: (name, from, to)."""

    def __init__(self, server: RtspServer, broker: Broker | None, chance: random.Random, pause_s: float) -> None:
        self.done: list[tuple[str, float, float]] = []
        self._server, self._broker, self._chance, self._pause_s = server, broker, chance, pause_s
        self._picture_at = server.picture_at
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """After the fault that is under way."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._pause_s * self._chance.uniform(0.5, 1.5)):
            begun_s = time.monotonic()
            if self._broker is not None and self._chance.random() < 0.1:
                self._broker.restart()
                self.done.append(("broker restart", begun_s, time.monotonic()))
                continue
            fault: Fault = self._chance.choice(faults(gone_s=min(self._pause_s, self._chance.expovariate(1 / 15))))
            fault.begin(self._server)
            self._stopping.wait(fault.lasts_s * self._chance.uniform(0.3, 1.5))
            fault.end(self._server)
            self._server.picture_at, self._server.fps = self._picture_at, FPS
            self.done.append((fault.name.partition(" for ")[0].partition(",")[0], begun_s, time.monotonic()))


@dataclass
class Observed:
    """What was seen of a run. frames, pending: at each sample."""

    begun_s: float
    samples: list[Taken] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)


def observe(run: ObservedRun, observer: Observer, seconds: float, metrics_port: int) -> Observed:
    seen, interval_s = Observed(time.monotonic()), min(30.0, max(1.0, seconds / 2000))
    while (now_s := time.monotonic()) < seen.begun_s + seconds:
        if run.process.poll() is not None:
            break
        seen.samples.append(run.taken())
        seen.frames.append(len(run.captured_s))
        seen.pending.append(observer.pending() or 0)
        if sys.stdout.isatty():
            print(f"{now_s - seen.begun_s:.0f} s, {seen.frames[-1]} frames, {seen.samples[-1].rss_mb:.1f} MB", end="\r")
        time.sleep(interval_s)
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            name, _, value = line.rpartition(" ")
            if line.startswith("edgeclip_") and "_bucket" not in name:
                seen.metrics[name.partition("{")[0]] = seen.metrics.get(name.partition("{")[0], 0.0) + float(value)
    return seen


def delivered(lines: Path, broker: Broker | None, receiver: Receiver) -> dict[str, Received]:
    received = {"webhook": receiver.received, "jsonl": Received()}
    for line in lines.read_bytes().splitlines():
        received["jsonl"].add(line)
    return {**received, "mqtt": broker.received} if broker is not None else received


def judge(seen: Observed, run: ObservedRun, chaos: Chaos, lost: dict[str, int], exit_code: int) -> dict[str, Any]:
    """The bounds, and the figures beside them."""
    seconds = seen.samples[-1].at_s - seen.begun_s
    warm_s = seen.begun_s + min(WARM_UP_S, seconds / 4)
    late = [index for index, sample in enumerate(seen.samples) if sample.at_s >= warm_s]
    calm = [
        index
        for index in late
        if not any(begin - 1 <= seen.samples[index].at_s <= end + 8 for _, begin, end in chaos.done)
    ] or late
    frames = np.array([seen.frames[index] for index in late], float)
    rss_mb, own_mb = (np.array([getattr(seen.samples[index], name) for index in late]) for name in ("rss_mb", "own_mb"))
    slope = float(np.polyfit(frames, rss_mb, 1)[0]) if np.ptp(frames) else 0.0
    grown_mb = slope * float(np.ptp(frames))
    ages_ms = [age for age, at_s in zip(run.ages_ms, run.captured_s, strict=False) if at_s >= warm_s]
    third = max(1, len(calm) // 3)
    drift = {
        name: abs(float(np.median(values[-third:]) - np.median(values[:third])))
        for name in ("fds", "threads")
        for values in ([getattr(seen.samples[index], name) for index in calm],)
    }
    age_p99_ms, limit_ms = percentile(ages_ms, 0.99), AGE_LIMIT_PERIODS * 1000 / FPS
    allowed_mb = max(RESOLVED_MB, GROWTH_LIMIT_MB * float(np.ptp(frames)) / 1e6)
    bounds = {
        f"frame age at p99 within {AGE_LIMIT_PERIODS:g} frame periods ({limit_ms:g} ms)": (
            f"{age_p99_ms:.1f} ms",
            age_p99_ms <= limit_ms,
        ),
        f"memory within {GROWTH_LIMIT_MB:g} MB per million frames (below {RESOLVED_MB:g} MB in all it is noise)": (
            f"{grown_mb:+.2f} MB over {int(np.ptp(frames))} frames",
            grown_mb <= allowed_mb,
        ),
        "descriptors flat": (f"{drift['fds']:+.0f}", drift["fds"] <= FLAT),
        "threads flat": (f"{drift['threads']:+.0f}", drift["threads"] <= FLAT),
        "no acknowledged event lost": (
            ", ".join(f"{sink} {count}" for sink, count in lost.items()),
            not any(lost.values()),
        ),
        "ended by request, exit code 0": (str(exit_code), exit_code == 0),
    }
    return {
        "seconds": seconds,
        "frames": seen.frames[-1],
        "faults": len(chaos.done),
        "age_p50_ms": percentile(ages_ms, 0.5),
        "age_p99_ms": age_p99_ms,
        "age_worst_ms": max(ages_ms),
        "rss_mb_per_million_frames": slope * 1e6,
        "rss_mb": [float(rss_mb.min()), float(np.median(rss_mb)), float(rss_mb.max())],
        "own_mb": [float(own_mb.min()), float(np.median(own_mb)), float(own_mb.max())],
        "fds_most": max(sample.fds for sample in seen.samples),
        "threads_most": max(sample.threads for sample in seen.samples),
        "metrics": {name: seen.metrics.get(name, 0.0) for name in METRICS},
        "bounds": {name: {"measured": measured, "held": held} for name, (measured, held) in bounds.items()},
        "passed": all(held for _, held in bounds.values()),
    }


METRICS = (
    *("edgeclip_frames_total", "edgeclip_frames_dropped_total", "edgeclip_source_reconnects_total"),
    *("edgeclip_messages_acknowledged_total", "edgeclip_messages_refused_total", "edgeclip_outbox_failures_total"),
)


def plot(path: Path, seen: Observed, run: ObservedRun, chaos: Chaos) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    hours = [(sample.at_s - seen.begun_s) / 3600 for sample in seen.samples]
    figure, axes = pyplot.subplots(4, 1, figsize=(10, 9), sharex=True, layout="constrained")
    captured, ages = np.array(run.captured_s), np.array(run.ages_ms)[: len(run.captured_s)]
    edges = np.linspace(seen.begun_s, seen.samples[-1].at_s, 101)
    bins = np.digitize(captured, edges)
    filled = [index for index in range(1, 101) if (bins == index).any()]
    axes[0].plot(
        [(edges[index] - seen.begun_s) / 3600 for index in filled],
        [np.percentile(ages[bins == index], 99) for index in filled],
        ".-",
    )
    axes[0].axhline(AGE_LIMIT_PERIODS * 1000 / FPS, color="tab:red", linewidth=1)
    axes[0].set_ylabel("frame age, p99, ms")
    axes[1].plot(hours, [sample.rss_mb for sample in seen.samples], label="resident")
    axes[1].plot(hours, [sample.own_mb for sample in seen.samples], label="of it, no file's")
    axes[1].set_ylabel("memory, MB")
    axes[1].legend(loc="center left")
    axes[2].plot(hours, [sample.fds for sample in seen.samples], label="descriptors")
    axes[2].plot(hours, [sample.threads for sample in seen.samples], label="threads")
    axes[2].legend(loc="upper left")
    axes[3].plot(hours, seen.pending)
    axes[3].set_ylabel("deliveries pending")
    axes[3].set_xlabel("hours (shaded: a fault)")
    for axis in axes:
        if axis is not axes[1]:  # of memory, the growth is what is looked for
            axis.set_ylim(bottom=0)
        for _, begin_s, end_s in chaos.done:
            axis.axvspan((begin_s - seen.begun_s) / 3600, (end_s - seen.begun_s) / 3600, color="0.85", linewidth=0)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def report(result: dict[str, Any], seed: int) -> str:
    count, by_name = result["faults"], result["faults_by_name"]
    lines = [
        "# A run with faults\n",
        f"`python benchmarks/soak_run.py --hours {result['asked_s'] / 3600:.3g} --seed {seed}`, {result['about']}: "
        f"{result['frames']} decisions in {result['seconds'] / 3600:.2f} h, {count} faults "
        f"({', '.join(f'{number} x {name}' for name, number in by_name.items())}), "
        f"{result['acknowledged']} messages acknowledged.\n",
        "| bound | measured | |",
        "|---|---|---|",
        *(
            f"| {name} | {bound['measured']} | {'held' if bound['held'] else 'MISSED'} |"
            for name, bound in result["bounds"].items()
        ),
        f"\nFrame age {result['age_p50_ms']:.1f} ms at p50, {result['age_worst_ms']:.0f} ms at worst. Memory "
        f"{result['rss_mb'][0]:.1f} to {result['rss_mb'][2]:.1f} MB after the warm-up, "
        f"{result['own_mb'][0]:.1f} to {result['own_mb'][2]:.1f} MB of it its own and the rest pages of files. "
        f"At most {result['fds_most']} descriptors and {result['threads_most']} threads.",
        f"\nDuplicates (which at-least-once allows): {result['duplicates']}. Its own metrics: "
        + ", ".join(f"{name.removeprefix('edgeclip_')} {value:.0f}" for name, value in result["metrics"].items())
        + ".\n\n![frame age, memory, descriptors and threads, deliveries pending](soak.png)",
    ]
    return "\n".join(lines) + "\n"


def soak(seconds: float, seed: int, folder: Path, out: Path) -> dict[str, Any]:
    chance, (one, other) = random.Random(seed), scenes()

    def picture_at(index: int) -> Picture:
        picture = (one, other)[int(index / FPS / SCENE_S) % 2].copy()
        picture[-6:, index * 4 % 300 : index * 4 % 300 + 16] = 255  # so that no frame is like the one before
        return picture

    (folder / "watches.yaml").write_text(WATCHES)
    state, lines, metrics_port = folder / "state", folder / "events.jsonl", free_port()
    state.mkdir()
    with ExitStack() as stack:
        server = stack.enter_context(RtspServer(picture_at, fps=FPS))
        receiver = Receiver(random.Random(seed + 1))
        stack.callback(receiver.close)
        observer = Observer(state / "outbox.sqlite", interval_s=0.5)
        mosquitto = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        broker = Broker(folder) if mosquitto else None
        if broker is not None:
            stack.callback(broker.close)
        else:
            print("mosquitto is not installed: no MQTT sink in this run")
        arguments = ["--source", server.url, "--watch", str(folder / "watches.yaml"), "--metrics"]
        arguments += [f"127.0.0.1:{metrics_port}", "--sink", f"http://127.0.0.1:{receiver.port}/events"]
        arguments += ["--sink", f"jsonl:{lines}?max_mb=1000"]
        arguments += ["--sink", f"mqtt://127.0.0.1:{broker.port}/soak"] if broker is not None else []
        settings = {"EDGECLIP_MEDIA_MB": "32"}
        run = ObservedRun(arguments, state, settings)
        run.wait_for_frames(50)
        chaos = Chaos(server, broker, chance, pause_s=min(30.0, max(6.0, seconds / 60)))
        seen = observe(run, observer, seconds, metrics_port)
        chaos.stop()
        time.sleep(5)
        exit_code = run.stop()
        deadline_s = time.monotonic() + DRAIN_LIMIT_S
        while observer.pending() and time.monotonic() < deadline_s:  # a sink was away at the end
            last = ObservedRun([*arguments, "--max-frames", "1"], state, settings)
            last.process.wait(60)
        time.sleep(1.5)  # the observer's and the subscriber's last
        observer.close()
        received = delivered(lines, broker, receiver)
    lost = {sink: len(observer.acknowledged - had.counts.keys()) for sink, had in received.items()}
    result = judge(seen, run, chaos, lost, exit_code)
    names = [name for name, *_ in chaos.done]
    result["faults_by_name"] = {name: names.count(name) for name in sorted(set(names))}
    result["asked_s"] = seconds
    result["acknowledged"] = len(observer.acknowledged)
    result["duplicates"] = sum(sum(had.counts.values()) - len(had.counts) for had in received.values())
    result["about"] = f"{platform.machine()}, {os.cpu_count()} processors, load {os.getloadavg()[2]:.1f}"
    out.mkdir(parents=True, exist_ok=True)
    plot(out / "soak.png", seen, run, chaos)
    step = max(1, len(seen.samples) // 200)
    result["samples"] = [
        {
            "s": round(sample.at_s - seen.begun_s, 1),
            "frames": frames,
            "rss_mb": round(sample.rss_mb, 2),
            "own_mb": round(sample.own_mb, 2),
        }
        for sample, frames in zip(seen.samples[::step], seen.frames[::step], strict=True)
    ]
    (out / "soak.json").write_text(json.dumps(result, indent=2) + "\n")
    (out / "soak.md").write_text(report(result, seed))
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build-work/soak"), metavar="DIR", help="of the report")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in DIR, and leave it")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeclip-soak-")))
        folder.mkdir(parents=True, exist_ok=True)
        result = soak(arguments.hours * 3600, arguments.seed, folder, arguments.out)
    print((arguments.out / "soak.md").read_text())
    print(f"passed: {result['passed']}; the report is {arguments.out / 'soak.md'}")
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
