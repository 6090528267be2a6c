"""`edgeclip capture`."""

from __future__ import annotations

import os
import sys
from typing import Any

from edgeclip.commands.arguments import (
    add_bundle_option,
    add_command,
    add_engine,
    add_sources,
    at_least_one,
    positive,
    usual_bundle,
    zero_or_more,
)
from edgeclip.commands.terminal import print_json
from edgeclip.errors import OK, UsageError


def add_capture(commands: Any) -> None:
    parser = add_command(
        commands,
        "capture",
        _capture,
        "collect a varied calibration set from a running camera",
        "Keep the frames that differ most as the image engine sees them; duplicates, blurred, dark and blank ones are "
        "left out. Goes on until Ctrl-C, a limit or the end of the source. The same command again goes on with the "
        "same set, also after a crash.",
    )
    add_sources(parser, "as for `run`; repeatable")
    parser.add_argument("--out", required=True, metavar="DIR", help="the set, new or to go on with: calibration/site-a")
    parser.add_argument("--frames", type=at_least_one, metavar="N", help="keep at most N frames (default: 512)")
    add_bundle_option(parser)
    parser.add_argument(
        "--fps", type=positive, metavar="N", help="look at no more than N frames a second (default: all)"
    )
    parser.add_argument("--seconds", type=positive, metavar="S", help="end after S seconds")
    parser.add_argument("--patience", type=positive, metavar="S", help="end when nothing new has come for S seconds")
    parser.add_argument(
        "--min-sharpness",
        type=zero_or_more,
        metavar="V",
        help="a frame is blurred below this variance of its Laplacian, 0: none is (default: 20)",
    )
    add_engine(parser)
    parser.add_argument("--wait", action="store_true", help="keep trying when a live source is not there yet")
    parser.add_argument("--json", action="store_true", help="the outcome as one JSON object")


def _capture(source: list[str] | None = None, out: str = "", json: bool = False, **options: Any) -> int:
    from pathlib import Path

    import msgspec

    from edgeclip.capture.session import CaptureOptions, capture
    from edgeclip.progress import progress_for
    from edgeclip.runtime.signals import StopSignals

    if not source:
        raise UsageError("no source to capture from", "try `--camera 0`, or `--source rtsp://HOST/PATH`")
    options["bundle"] = options.get("bundle") or usual_bundle()
    asked = CaptureOptions(source=tuple(source), out=Path(out), **options)
    with StopSignals() as stop, progress_for(sys.stderr) as progress:
        outcome = capture(asked, stop, progress)
    if json:
        print_json(msgspec.to_builtins(outcome))
        return OK
    counts = outcome.counts
    print(
        f"{outcome.out}: {outcome.kept} frames; this run of {outcome.seconds:.1f} s took in {outcome.new}; "
        f"{outcome.ended}"
    )
    print(
        f"  {counts.seen} looked at: {counts.near} near-duplicates, {counts.redundant} redundant, "
        f"{counts.blurred} blurred, {counts.dark} dark, {counts.blank} blank; {counts.replaced} replaced by newer ones"
    )
    print(f"  look at {os.path.join(out, 'contact-sheet.png')} and {os.path.join(out, 'coverage.html')}")
    if outcome.enough:
        print(f"  next: edgeclip build RECIPE.yaml --calibration {out}")
    else:
        print("  too few for `edgeclip build`, which asks for 64: give the same command again to go on")
    return OK
