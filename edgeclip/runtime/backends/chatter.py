"""Keeps native libraries' greetings out of the user's terminal."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

GREETINGS = (b"INFO: ", b"WARNING: Attempting to use a delegate")  # no switch turns TFLite's off
_one_at_a_time = threading.Lock()


@contextmanager
def native_chatter_hidden() -> Iterator[None]:
    """While entered, standard error is held back, for the whole process; all but GREETINGS is written afterwards."""
    with _one_at_a_time, tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        shown = os.dup(2)
        try:
            os.dup2(held.fileno(), 2)
            yield
        finally:
            sys.stderr.flush()
            os.dup2(shown, 2)
            os.close(shown)
            held.seek(0)
            for line in held:
                if not line.startswith(GREETINGS):
                    os.write(2, line)
