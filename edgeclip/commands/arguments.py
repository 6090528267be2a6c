"""What several commands share: how one is added, options that come again, and the types of values."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

BUNDLE_HELP = "engine bundle, directory or .tar, or `current`, the installed one (default: nano)"
BACKEND_HELP = (
    "engine runtime: litert, tflite-runtime, onnxruntime, openvino, tensorrt, tensorrt-rtx (default: the bundle's "
    "first that this device has)"
)
THREADS_HELP = "threads of the engine (default: one less than there are cores, at most 4)"


def add_command(
    commands: Any, words: str, function: Callable[..., int], help: str, description: str = ""
) -> argparse.ArgumentParser:
    """Add one command to what `add_subparsers` gave.

    words: the command as it is typed, "labels check". function: does it; takes the options that were given by
    name, and returns the exit code. It is the parsed `command`.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        words.split()[-1], help=help, description=description or help, argument_default=argparse.SUPPRESS
    )
    parser.set_defaults(command=function)
    return parser


def add_sources(parser: argparse._ActionsContainer, help: str) -> None:
    """--camera and --source, in the order given. parser: or a group of its options. help: of the latter."""
    parser.add_argument(
        "--camera", dest="source", action="append", type=camera, metavar="N", help="camera number, from 0; repeatable"
    )
    parser.add_argument("--source", action="append", metavar="URI", help=help)


def add_bundle_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--bundle", metavar="PATH", help=BUNDLE_HELP)


def add_engine(parser: argparse._ActionsContainer) -> None:
    """--backend and --threads."""
    parser.add_argument("--backend", metavar="NAME", help=BACKEND_HELP)
    parser.add_argument("--threads", type=at_least_one, metavar="N", help=THREADS_HELP)


def add_no_taught(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--no-taught", dest="taught", action="store_false", help="words alone, without taught pictures")


def usual_bundle() -> str | None:
    """The bundle that the environment names, as for `run`; None for the one that comes with edgeclip."""
    return os.environ.get("EDGECLIP_BUNDLE") or None


def camera(text: str) -> str:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a camera number; for other sources use --source")
    return f"camera:{int(text)}"


def positive(text: str) -> float:
    value = number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return value


def zero_or_more(text: str) -> float:
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return value


def number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -1e9 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)
