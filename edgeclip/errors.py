"""The one exception a user's mistake or a broken device turns into, and the exit codes it maps to.

`cli.main` is the only place that catches it: it prints `error: message` and `  fix: hint` to stderr
and exits with `exit_code`. Anything else that reaches `cli.main` is a bug and shows a traceback.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

OK = 0
USAGE = 2  # argparse's own
BAD_DATA = 65  # EX_DATAERR: bundle, labels, image, calibration set
UNAVAILABLE = 69  # EX_UNAVAILABLE: a source or an engine runtime that cannot be had
CONFIGURATION = 78  # EX_CONFIG: configuration file, environment, options that contradict each other

DISK = frozenset({errno.EDQUOT, errno.EIO, errno.ENOSPC})  # of an OSError: may be well at the next start


class EdgeclipError(Exception):
    """A failure with its remedy.

    message: one sentence that names the file, line or key at fault.
    hint: what to do about it, or "" where the message already says so.
    exit_code: what the process exits with.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(EdgeclipError):
    exit_code = USAGE


class DataError(EdgeclipError):
    """A file that is not what it should be: bundle, labels, image, checkpoint, calibration set."""

    exit_code = BAD_DATA


class SourceError(EdgeclipError):
    """A source that cannot be opened, or was lost. The supervisor retries live ones."""

    exit_code = UNAVAILABLE


class EngineError(EdgeclipError):
    """An engine runtime that is missing, or that returned something no decision may rest on."""

    exit_code = UNAVAILABLE


class ConfigError(EdgeclipError):
    exit_code = CONFIGURATION


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def is_of_system(error: BaseException) -> bool:
    """Whether the system refused what was asked, and not what stands in a file: that may pass without an edit."""
    return any(isinstance(one, OSError) for one in causes(error))


def reason_of(error: BaseException) -> str:
    """What went wrong, in the system's words and without its number: no "[Errno 111]"."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
