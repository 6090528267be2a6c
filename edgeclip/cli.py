"""The command line: which commands there are, and what becomes of their errors.

Nothing heavy is imported before a command needs it: `edgeclip --help` loads neither numpy, OpenCV nor an engine.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from edgeclip import __version__
from edgeclip.commands import build, bundle, capture, events, labels, measure, run, service, teach, tune
from edgeclip.commands.arguments import add_command
from edgeclip.commands.parser import Parser
from edgeclip.commands.terminal import complain, notice
from edgeclip.errors import CONFIGURATION, DISK, OK, UNAVAILABLE, DataError, EdgeclipError, EngineError, UsageError

NO_PLACE = frozenset({errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EROFS})
INTERRUPTED = 130  # what shells report for a command that Ctrl-C ended

EPILOG = """\
exit codes:
  0   done; also after Ctrl-C or SIGTERM during `run` and `capture`
  2   usage: an option or argument is wrong
  65  bad data: bundle, labels, picture, data set
  69  unavailable: a source, a sink or an engine runtime cannot be had, a disk is full
  78  configuration: file, environment, or a place that cannot be written
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; `--help` and `--version` exit by themselves."""
    try:
        _stand_in_for_closed_streams()
        parser = make_parser()
        if "_ARGCOMPLETE" in os.environ:
            importlib.import_module("argcomplete").autocomplete(parser)
        _check_encoding(sys.argv[1:] if argv is None else argv)
        arguments = vars(parser.parse_args(argv))
        command = arguments.pop("command", None)
        if command is None:
            parser.print_help()
            return UsageError.exit_code
        code: int = command(**arguments)
        sys.stdout.flush()
        return code
    except EdgeclipError as error:
        complain(error)
        return error.exit_code
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "edgeclip":
            raise
        complain(EngineError(f"{error.name} is not installed, and this command needs it", "pip install edgeclip"))
        return UNAVAILABLE
    except PermissionError as error:  # any file or directory along the way may refuse; each is told alike
        complain(DataError(f"{error.filename or error}: permission denied", "check its owner and permissions"))
        return DataError.exit_code
    except BrokenPipeError:  # the reader has gone, as `| head` does: nothing to say, and nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:  # a place that is none, a disk that is full or ill
        if error.errno not in (*DISK, *NO_PLACE):
            raise
        place = f"{error.filename}: " if error.filename else ""
        fix, code = (
            ("make room, or look after the disk", UNAVAILABLE)
            if error.errno in DISK
            else ("name a place that can be written", CONFIGURATION)
        )
        complain(EdgeclipError(f"{place}{error.strerror}", fix, code))
        return code
    except KeyboardInterrupt:
        notice("interrupted")
        return INTERRUPTED


def _stand_in_for_closed_streams() -> None:
    """A standard stream that was closed (`>&-`) leads nowhere. Else the next file to be opened, a database maybe, would
    get its number, and with it whatever a library prints."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _check_encoding(words: Sequence[str]) -> None:
    """Names that are no UTF-8 can be neither written into an event nor shown, and OpenCV crashes on them."""
    given = {name: value for name, value in os.environ.items() if name.startswith("EDGECLIP_")}
    for where, text in [*((ascii(word), word) for word in words), *given.items()]:
        if any("\ud800" <= character <= "\udfff" for character in text):  # where Python keeps such bytes
            raise UsageError(f"{where} is not UTF-8", "rename the file, or write it in UTF-8")


def make_parser() -> argparse.ArgumentParser:
    """Options that were not given are absent from the namespace, so that lower layers of configuration show."""
    parser = Parser(
        prog="edgeclip",
        description="Watch a camera in words: CLIP engines at INT8 on small machines.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--version", action="version", version=f"edgeclip {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    return parser


def _add_help(commands: Any) -> None:
    parser = add_command(commands, "help", _help, "say how edgeclip, or one of its commands, is used")
    parser.add_argument("words", nargs="*", metavar="COMMAND", help="run, labels check, ...")


def _help(words: Sequence[str] = ()) -> int:
    make_parser().parse_args([*words, "--help"])
    return OK


# In the order of `edgeclip --help`. Each adds a command: its options, and the function beside it that does it.
COMMANDS: tuple[Callable[[Any], None], ...] = (
    run.add_run,
    labels.add_labels,
    events.add_events,
    bundle.add_inspect,
    measure.add_eval,
    measure.add_bench,
    teach.add_teach,
    teach.add_taught,
    teach.add_forget,
    service.add_doctor,
    service.add_service,
    build.add_train,
    tune.add_tune,
    capture.add_capture,
    build.add_build,
    build.add_compile,
    measure.add_verify,
    bundle.add_bundle,
    _add_help,
)
