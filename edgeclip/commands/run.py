"""`edgeclip run`."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from edgeclip.commands.arguments import (
    add_bundle_option,
    add_command,
    add_engine,
    add_no_taught,
    add_sources,
    at_least_one,
    count,
    positive,
    zero_or_more,
)
from edgeclip.commands.terminal import notice
from edgeclip.errors import OK, UsageError

if TYPE_CHECKING:
    from edgeclip.runtime.signals import ReloadSignal, StopSignals


def add_run(commands: Any) -> None:
    parser = add_command(
        commands,
        "run",
        _run,
        "watch a camera, stream, film or pictures and say what is seen",
        "Watch a source and score every frame against the labels. On a terminal a live table, elsewhere a line when "
        "the best label changes (files of single pictures: a line each). Every option can also be set in the "
        "environment (EDGECLIP_MAX_FRAMES=40) and in a YAML file (max_frames: 40).",
    )
    group = parser.add_argument_group("what to watch")
    add_sources(
        group,
        "rtsp://..., http://.../mjpeg, clip.mp4, photo.jpg, frames/, 'shots/*.jpg', csi://0, gst:PIPELINE, demo; "
        "repeatable",
    )
    group.add_argument("--fps", type=positive, metavar="N", help="take at most N frames a second (default: all)")
    group.add_argument("--realtime", action="store_true", help="play files at their own rate, newest frame wins")
    group.add_argument("--wait", action="store_true", help="keep trying when a live source is not there yet")
    group.add_argument("--max-frames", type=at_least_one, metavar="N", help="stop after N decisions")

    group = parser.add_argument_group("what to look for")
    group.add_argument(
        "--labels", metavar="FILE", help="labels, one a line; watched while running (default: 20 everyday ones)"
    )
    group.add_argument("--label", action="append", metavar="TEXT", help="a label; repeatable")
    group.add_argument(
        "--watch", metavar="FILE", help="watches.yaml: sentences to wait for, each on its own; watched while running"
    )
    group.add_argument(
        "--unknown",
        type=zero_or_more,
        metavar="RATE",
        help="share of frames that do show a label and may be called unknown, 0 to turn it off (default: 0.05)",
    )
    group.add_argument(
        "--smoothing",
        type=zero_or_more,
        metavar="SECONDS",
        help="half-life of what was seen before (default: 0.5; single pictures: 0)",
    )
    add_no_taught(group)

    group = parser.add_argument_group("what comes out")
    group.add_argument("--top", type=count, metavar="K", help="labels to report, 0 for all (default: 5)")
    group.add_argument("--json", action="store_true", help="one JSON object per decision on standard output")
    group.add_argument("--record", metavar="FILE.mp4", help="annotated video")
    group.add_argument("--snapshot", metavar="FILE.png", help="the last frame, annotated, when the run ends")
    group.add_argument(
        "--sink",
        action="append",
        metavar="URI",
        help="jsonl:PATH, stdout:, lines:, table:, decisions:PATH; events of watches: jsonl:PATH, "
        "mqtt[s]://HOST/TOPIC, http[s]://HOST/PATH, command:PROGRAM; repeatable (docs/events.md)",
    )
    group.add_argument(
        "--metrics", metavar="HOST:PORT", help="serve Prometheus metrics, /healthz and /readyz (default: off)"
    )

    group = parser.add_argument_group("events of watches")
    group.add_argument(
        "--give-up-s",
        type=positive,
        metavar="S",
        help="put aside an event that a sink has not taken after S seconds (default: a week)",
    )
    group.add_argument("--outbox-mb", type=positive, metavar="MB", help="bound on undelivered events (default: 256)")
    group.add_argument(
        "--media-mb", type=zero_or_more, metavar="MB", help="bound on snapshots and clips, 0 for none (default: 512)"
    )
    group.add_argument("--media-days", type=positive, metavar="N", help="how long they are kept (default: 30)")
    group.add_argument(
        "--clip-before-s", type=zero_or_more, metavar="S", help="a clip begins S before its event (default: 3)"
    )
    group.add_argument("--clip-after-s", type=zero_or_more, metavar="S", help="and ends S after it (default: 2)")

    group = parser.add_argument_group("engine and device")
    add_bundle_option(group)
    add_engine(group)
    group.add_argument("--recompile", action="store_true", help="compile a plan that is not for this device again")
    group.add_argument("--gpu-preprocess", action="store_true", help="resize and crop on the GPU (CUDA)")
    group.add_argument(
        "--max-temperature-c",
        type=positive,
        metavar="C",
        help="stay below C, by fewer frames a second from 9 degrees below it on (default: where the board throttles)",
    )

    parser.add_argument(
        "--config", metavar="FILE", help="YAML settings (or EDGECLIP_CONFIG); flags and environment come first"
    )


def _run(config: str | None = None, **flags: Any) -> int:
    from edgeclip.runtime.signals import ReloadSignal, StopSignals

    with StopSignals() as stop, ReloadSignal() as hang_up:  # before what takes seconds on a small board: imports
        return _run_until(stop, hang_up, config, flags)


def _run_until(stop: StopSignals, hang_up: ReloadSignal, config: str | None, flags: dict[str, Any]) -> int:
    from edgeclip.config import Config, load_config

    def load() -> Config:
        return load_config(flags, os.environ, config or os.environ.get("EDGECLIP_CONFIG"))

    if not load().source:
        raise UsageError("no source to watch", "try `edgeclip run --source demo`, or `--camera 0` for the first camera")
    from edgeclip.arenas import keep_giving_back, limit_arenas

    limit_arenas()  # before anything that starts threads
    keep_giving_back()
    from edgeclip.runtime.lifecycle import run_for_months

    if "NOTIFY_SOCKET" in os.environ:
        importlib.import_module("faulthandler").enable()  # where every thread was when the watchdog bit
    notice(str(run_for_months(load, sys.stdout, notice, stop, hang_up)))
    return OK
