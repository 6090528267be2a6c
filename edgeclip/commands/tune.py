"""`edgeclip tune`."""

from __future__ import annotations

import sys
from typing import Any

from edgeclip.commands.arguments import add_bundle_option, add_command, add_engine, add_sources, positive, usual_bundle
from edgeclip.commands.terminal import print_json
from edgeclip.errors import OK, UsageError


def add_tune(commands: Any) -> None:
    parser = add_command(
        commands,
        "tune",
        _tune,
        "fit the thresholds of watches to a stated rate of false alarms",
        "Watch background footage, in which nothing that is watched for happens, and fit each watch's thresholds: "
        "the upper end of the interval of its false-alarm rate keeps the promise. They are written beside the watches "
        "file, with their evidence and a picture. Footage that cannot support the promise is refused (exit code 65), "
        "and nothing is written.",
    )
    add_sources(parser, "background: as for `run`, or a folder of clips; repeatable")
    parser.add_argument("--watch", required=True, metavar="FILE", help="watches.yaml")
    parser.add_argument(
        "--false-alarms",
        required=True,
        metavar="RATE",
        help="of each watch and camera: 1/day, 2/week, 1/hour, 1/6h",
    )
    parser.add_argument(
        "--positives",
        action="append",
        metavar="[WATCH=]PATH",
        help="clips or pictures of what a watch waits for: how many it finds at that rate; repeatable",
    )
    parser.add_argument("--fps", type=positive, metavar="N", help="take N frames a second, as the run will")
    parser.add_argument("--minutes", type=positive, metavar="M", help="of live sources: end after M minutes")
    add_bundle_option(parser)
    parser.add_argument(
        "--out", metavar="FILE", help="thresholds file (default: WATCHES.thresholds.json, beside the watches)"
    )
    add_engine(parser)
    parser.add_argument("--json", action="store_true", help="the outcome as one JSON object")


def _tune(
    source: list[str] | None = None, positives: list[str] | None = None, json: bool = False, **options: Any
) -> int:
    import msgspec

    from edgeclip.progress import progress_for
    from edgeclip.runtime.signals import StopSignals
    from edgeclip.tune.session import TuneOptions, table, tune

    if not source:
        raise UsageError("no footage to tune on", "try `--source background.mp4`, or `--camera 0 --minutes 150`")
    options["bundle"] = options.get("bundle") or usual_bundle()
    asked = TuneOptions(source=tuple(source), positives=tuple(positives or ()), **options)
    with StopSignals() as stop, progress_for(sys.stderr) as progress:
        outcome = tune(asked, stop, progress)
    if json:
        print_json(msgspec.to_builtins(outcome))
        return OK
    for line in table(outcome):
        print(line)
    for note in outcome.notes:
        print(f"note: {note}")
    print(f"{outcome.thresholds}: written; {outcome.picture} shows what they rest on")
    return OK
