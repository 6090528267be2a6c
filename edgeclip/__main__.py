"""`python -m edgeclip` is `edgeclip`."""

import sys


def start() -> int:
    """The command line. Ctrl-C while its modules are still being loaded, a second on a small board, ends it quietly."""
    try:
        from edgeclip.cli import main
    except KeyboardInterrupt:
        return 130  # cli.INTERRUPTED
    return main()


if __name__ == "__main__":
    sys.exit(start())
