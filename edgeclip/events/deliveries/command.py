"""Runs a program for every message: its JSON on standard input, its id and type in the environment. Never a shell.

`command:notify.sh --door` is split into words as a shell would, and started as these words. Exit code 0 is delivered,
65 (EX_DATAERR) refused for good, anything else tried again, as is a program that takes longer than 30 s.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence

from edgeclip.errors import BAD_DATA, ConfigError, UsageError
from edgeclip.events.deliveries import Setting
from edgeclip.events.delivery import Message, Rejected, Unreachable

TIMEOUT_S = 30.0
SHOWN = 200  # characters of what it complained about


class Command:
    def __init__(self, uri: str, setting: Setting, timeout_s: float = TIMEOUT_S) -> None:
        try:
            self._words = shlex.split(uri.removeprefix("command:"))
        except ValueError as error:
            raise UsageError(f"--sink command:...: {error}", "close the quotation mark") from error
        if not self._words:
            raise UsageError("--sink command:: the program is missing", "write command:PROGRAM ARGUMENTS")
        if shutil.which(self._words[0]) is None:
            raise ConfigError(f"--sink command: {self._words[0]} is no program here", "give its path, or chmod +x it")
        # Arguments may be secret: only their digest is shown.
        digest = hashlib.sha256("\0".join(self._words).encode()).hexdigest()[:8]
        self.name = f"command:{os.path.basename(self._words[0])}#{digest}"
        self._timeout_s = timeout_s

    def open(self) -> None:
        return

    def deliver(self, messages: Sequence[Message], done: Callable[[Message], object]) -> None:
        for message in messages:
            self._run(message)
            done(message)

    def tend(self) -> None:
        return

    def close(self) -> None:
        return

    def _run(self, message: Message) -> None:
        about = {"EDGECLIP_EVENT_ID": message.id, "EDGECLIP_EVENT_TYPE": message.event.type}
        with tempfile.TemporaryFile() as said:  # no pipe: what the program leaves running would hold its end open
            try:
                process = subprocess.Popen(
                    self._words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    env={**os.environ, **about},
                    start_new_session=True,
                )
            except OSError as error:
                raise Unreachable(f"{self._words[0]} cannot be started: {error.strerror}") from error
            with process:
                try:
                    process.communicate(message.body, self._timeout_s)
                except subprocess.TimeoutExpired as error:
                    os.killpg(process.pid, signal.SIGKILL)
                    raise Unreachable(f"{self._words[0]} took longer than {self._timeout_s:g} s") from error
            if process.returncode == 0:
                return
            said.seek(max(os.fstat(said.fileno()).st_size - 4 * SHOWN, 0))
            complaint = said.read().decode(errors="replace").strip()[-SHOWN:]
        reason = f"{self._words[0]} ended with {process.returncode}{f': {complaint}' if complaint else ''}"
        raise Rejected(reason, message) if process.returncode == BAD_DATA else Unreachable(reason)
