"""`edgeclip teach`, `taught` and `forget`: labels taught with pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from edgeclip.commands.arguments import (
    add_bundle_option,
    add_command,
    add_engine,
    at_least_one,
    camera,
    positive,
    usual_bundle,
)
from edgeclip.commands.terminal import print_json
from edgeclip.errors import OK


def add_teach(commands: Any) -> None:
    parser = add_command(
        commands,
        "teach",
        _teach,
        "teach a label with a few pictures, for `run` and `eval`",
        "Pictures refine the label of that name wherever it is asked for, at once also in a `run` that is going on. "
        "Nothing is trained. Pictures that do not fit the others are left out, and shown. What is kept are embeddings "
        "and thumbnails, in the state directory (EDGECLIP_STATE).",
    )
    parser.add_argument("label", metavar="LABEL", help="its name, as in the labels file")
    parser.add_argument("shots", nargs="*", metavar="SHOTS", help="pictures, folders of them, 'patterns*.jpg'")
    parser.add_argument("--camera", dest="source", type=camera, metavar="N", help="or look at a camera")
    parser.add_argument("--source", metavar="URI", help="or at any source, as for `run`")
    parser.add_argument("--seconds", type=positive, metavar="S", help="of the source (default: 10)")
    parser.add_argument(
        "--frames", type=at_least_one, metavar="N", help="to keep of these, the most different (default: 16)"
    )
    parser.add_argument("--keep-all", action="store_true", help="leave none out")
    _add_taught_options(parser)
    add_engine(parser)


def add_taught(commands: Any) -> None:
    parser = add_command(commands, "taught", _taught, "list the labels that were taught, and their shots")
    _add_taught_options(parser)


def add_forget(commands: Any) -> None:
    parser = add_command(commands, "forget", _forget, "take a taught label, or one of its shots, out again")
    parser.add_argument("label", metavar="LABEL", help="its name")
    parser.add_argument("--shot", metavar="ID", help="this one alone; `edgeclip taught` lists them")
    _add_taught_options(parser)


def _add_taught_options(parser: argparse.ArgumentParser) -> None:
    add_bundle_option(parser)
    parser.add_argument("--json", action="store_true", help="the outcome as one JSON object")


def _teach(label: str, json: bool = False, bundle: str | None = None, shots: Sequence[str] = (), **options: Any) -> int:
    import msgspec

    from edgeclip.bundle import open_bundle
    from edgeclip.progress import progress_for
    from edgeclip.runtime.signals import StopSignals
    from edgeclip.state import state_dir
    from edgeclip.teach.session import TeachOptions, teach

    opened = open_bundle(bundle or usual_bundle())
    with StopSignals() as stop, progress_for(sys.stderr) as progress:
        outcome = teach(TeachOptions(label, tuple(shots), **options), opened, state_dir(), stop, progress)
    if json:
        print_json(msgspec.to_builtins(outcome))
        return OK
    again = f", {outcome.again} as those known before, or twice" if outcome.again else ""
    print(f"{outcome.label}: {outcome.new} new shots{again}; {outcome.shots - len(outcome.left_out)} in use")
    for shot in outcome.left_out:
        print(f"  left out {shot.id} {shot.origin}: {shot.left_out}")
    print(f"  look at {outcome.sheet}")
    if outcome.way is not None and outcome.text is not None and outcome.taught is not None:
        print(
            f"  among the {outcome.labels} taught labels, each shot left out in turn: text alone {outcome.text:.0%}, "
            f"taught {outcome.taught:.0%} ({outcome.way})"
        )
    if outcome.labels == 1:
        print(
            "  teach what it is to be told from as well, from the same camera: then the place itself counts for nothing"
        )
    print(f"  it refines the label {outcome.label!r}: have that line in the labels file")
    return OK


def _taught(bundle: str | None = None, json: bool = False) -> int:
    import msgspec

    from edgeclip.bundle import open_bundle
    from edgeclip.state import state_dir
    from edgeclip.teach.session import taught

    known = taught(open_bundle(bundle or usual_bundle()), state_dir())
    if json:
        print_json(msgspec.to_builtins(known))
        return OK
    for label in known.labels:
        print(f"{label.label}: {label.used} of {len(label.shots)} shots in use")
        for shot in label.shots:
            print(
                f"  {shot.id}  {shot.added}  {shot.origin}" + (f"  left out: {shot.left_out}" if shot.left_out else "")
            )
    if not known.labels:
        print('nothing was taught to this model: edgeclip teach "a coffee mug" shots/')
    for name, origins in known.elsewhere.items():
        print(f"{name}: taught to another model, and unknown to this one; {len(origins)} shots, from {origins[0]}")
    return OK


def _forget(label: str, shot: str | None = None, bundle: str | None = None, json: bool = False) -> int:
    from edgeclip.bundle import open_bundle
    from edgeclip.state import state_dir
    from edgeclip.teach.session import forget

    count = forget(label, shot, open_bundle(bundle or usual_bundle()), state_dir())
    if json:
        print_json({"label": label, "forgotten": count})
    else:
        print(f"{label}: {count} shots forgotten")
    return OK
