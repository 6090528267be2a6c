"""Take the README's pictures from real runs: the live table in tmux, and an annotated frame of the demo camera.

    python docs/pictures.py            # writes docs/table.svg and docs/frame.jpg

Needs tmux, and what `make setup` installs.
"""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import cv2
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

DOCS = Path(__file__).resolve().parent
SESSION = "edgeclip-pictures"
WIDTH, HEIGHT = 92, 14
SECONDS = 11.0  # into the demo: the motorcycle
FRAME = 40  # the cat


def table(path: Path) -> None:
    """The terminal as tmux holds it, colours included, after SECONDS of the demo."""
    command = [sys.executable, "-m", "edgeclip", "run", "--source", "demo"]
    subprocess.run(["tmux", "kill-session", "-t", SESSION], stderr=subprocess.DEVNULL, check=False)
    size = ["-x", str(WIDTH), "-y", str(HEIGHT)]
    subprocess.run(["tmux", "new-session", "-d", "-s", SESSION, *size, "-c", str(DOCS.parent), *command], check=True)
    try:
        time.sleep(SECONDS)
        capture = ["tmux", "capture-pane", "-e", "-p", "-t", SESSION]
        screen = subprocess.run(capture, check=True, capture_output=True, text=True).stdout
    finally:
        subprocess.run(["tmux", "kill-session", "-t", SESSION], check=False)
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text.from_ansi(screen.rstrip("\n")))
    path.write_text(console.export_svg(title="edgeclip run --source demo", theme=MONOKAI))


def frame(path: Path) -> None:
    """A frame with what was decided on it, as --snapshot writes it."""
    snapshot = path.with_suffix(".png")
    command = [sys.executable, "-m", "edgeclip", "run", "--source", "demo", "--top", "3"]
    command += ["--max-frames", str(FRAME), "--snapshot", str(snapshot), "--sink", "lines:"]
    subprocess.run(command, check=True, cwd=DOCS.parent)
    picture = cv2.imread(str(snapshot))
    assert picture is not None
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])
    snapshot.unlink()


if __name__ == "__main__":
    table(DOCS / "table.svg")
    frame(DOCS / "frame.jpg")
