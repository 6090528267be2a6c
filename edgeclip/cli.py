"""The command line: one thin function per command. The only place that prints or exits.

Nothing heavy is imported before a command needs it: `edgeclip --help` loads neither numpy, OpenCV nor an engine.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from edgeclip import __version__
from edgeclip.errors import OK, EdgeclipError, UsageError

EPILOG = """\
exit codes:
  0   done; also after Ctrl-C or SIGTERM during `run`
  2   usage: an option or argument is wrong
  65  bad data: bundle, labels, picture, data set
  69  unavailable: a source or an engine runtime cannot be had
  78  configuration: file, environment, or a place that cannot be written
"""

INTERRUPTED = 130  # what shells report for a command that Ctrl-C ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; argparse itself exits with 2 for unknown options."""
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    arguments = vars(parser.parse_args(argv))
    command = arguments.pop("command", None)
    if command is None:
        parser.print_help()
        return UsageError.exit_code
    try:
        code: int = command(**arguments)
        sys.stdout.flush()
        return code
    except EdgeclipError as error:
        _complain(error)
        return error.exit_code
    except BrokenPipeError:  # the reader has gone, as `| head` does: nothing to say, and nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        _notice("interrupted")
        return INTERRUPTED


def _complain(error: EdgeclipError) -> None:
    print(f"error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  fix: {error.hint}", file=sys.stderr)


def _notice(text: str) -> None:
    print(f"edgeclip: {text}", file=sys.stderr, flush=True)


# -- commands ----------------------------------------------------------------------------------------------------------


def _run(config: str | None = None, **flags: Any) -> int:
    from edgeclip.config import load_config

    settings = load_config(flags, os.environ, config or os.environ.get("EDGECLIP_CONFIG"))
    if not settings.source:
        raise UsageError("no source to watch", "try `edgeclip run --source demo`, or `--camera 0` for the first camera")
    from edgeclip.runtime.service import StopSignals, serve

    with StopSignals() as stop:
        summary = serve(settings, sys.stdout, _notice, stop)
    _notice(str(summary))
    return OK


# -- options -----------------------------------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """Options that were not given are absent from the namespace, so that lower layers of configuration show."""
    parser = argparse.ArgumentParser(
        prog="edgeclip",
        description="Watch a camera in words: CLIP engines at INT8 on small machines.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--version", action="version", version=f"edgeclip {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_run(commands)
    return parser


def _add(commands: Any, name: str, function: Any, help: str, description: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=description or help, argument_default=argparse.SUPPRESS
    )
    parser.set_defaults(command=function)
    return parser


def _add_run(commands: Any) -> None:
    parser = _add(
        commands,
        "run",
        _run,
        "watch a camera, stream, film or pictures and say what is seen",
        "Watch a source and score every frame against the labels. On a terminal a live table, elsewhere a line when "
        "the best label changes (files of single pictures: a line each). Every option can also be set in the "
        "environment (EDGECLIP_MAX_FRAMES=40) and in a YAML file (max_frames: 40).",
    )
    parser.add_argument(
        "--camera", dest="source", action="append", type=_camera, metavar="N", help="camera number; may be repeated"
    )
    parser.add_argument(
        "--source",
        action="append",
        metavar="URI",
        help="rtsp://..., http://.../mjpeg, clip.mp4, photo.jpg, frames/, 'shots/*.jpg', csi://0, demo; may be repeated",
    )
    parser.add_argument("--labels", metavar="FILE", help="labels, one a line; watched while running")
    parser.add_argument("--label", action="append", metavar="TEXT", help="a label; may be repeated")
    parser.add_argument("--bundle", metavar="PATH", help="engine bundle, directory or .tar (default: nano)")
    parser.add_argument("--fps", type=_positive, metavar="N", help="take at most N frames a second")
    parser.add_argument("--top", type=_count, metavar="K", help="labels to report, 0 for all (default: 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object per decision on standard output")
    parser.add_argument(
        "--sink", action="append", metavar="URI", help="jsonl:PATH, stdout:, lines:, table:; may be repeated"
    )
    parser.add_argument("--record", metavar="FILE.mp4", help="annotated video")
    parser.add_argument("--snapshot", metavar="FILE.png", help="the last frame, annotated, when the run ends")
    parser.add_argument("--max-frames", type=_at_least_one, metavar="N", help="stop after N decisions")
    parser.add_argument("--threads", type=_at_least_one, metavar="N", help="threads of the image engine")
    parser.add_argument("--backend", metavar="NAME", help="engine runtime: litert, tflite-runtime, onnxruntime")
    parser.add_argument("--realtime", action="store_true", help="play files at their own rate, newest frame wins")
    parser.add_argument(
        "--smoothing",
        type=_zero_or_more,
        metavar="SECONDS",
        help="half-life of what was seen before (default: 0.5; single pictures: 0)",
    )
    parser.add_argument("--wait", action="store_true", help="keep trying when a live source is not there yet")
    parser.add_argument("--config", metavar="FILE", help="YAML settings; flags and environment come first")


def _camera(text: str) -> str:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a camera number; for other sources use --source")
    return f"camera:{int(text)}"


def _positive(text: str) -> float:
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return value


def _zero_or_more(text: str) -> float:
    value = _number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -1e9 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)
