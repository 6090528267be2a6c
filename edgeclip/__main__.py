"""`python -m edgeclip` is `edgeclip`."""

import atexit
import os
import sys
import threading


def start() -> int:
    """The command line. Ctrl-C while its modules are still being loaded, a second on a small board, ends it quietly."""
    code = 1
    atexit.register(lambda: _leave(code))  # registered first, it comes last
    try:
        from edgeclip.cli import main
    except KeyboardInterrupt:
        code = 130  # cli.INTERRUPTED
        return code
    code = main()
    return code


def _leave(code: int) -> None:
    """Without the interpreter's own end where a thread was left behind, as by a camera that hangs in its driver: when
    such a thread comes back from OpenCV meanwhile, CPython ends it in a way that C++ answers with abort()."""
    if threading.active_count() == 1:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # nobody reads them any more
        code = code or 1
    os._exit(code)


if __name__ == "__main__":
    sys.exit(start())
