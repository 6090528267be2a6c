"""Bounds on a folder of pictures and clips: the oldest go first."""

from __future__ import annotations

import time
from pathlib import Path

SUFFIXES = frozenset({".jpg", ".mp4"})
LEFT_OVER_S = 3600.0  # a .part that old belongs to no writer


def remove_oldest(folder: Path, max_bytes: float, max_age_s: float) -> list[Path]:
    """Removes pictures and clips older than max_age_s, then the oldest until the rest is max_bytes at most, and folders
    left empty. Returns what was removed. Raises OSError."""
    now_s = time.time()
    found = []
    for path in folder.glob("*/*"):
        try:
            stat = path.stat()
        except FileNotFoundError:  # a clip that was renamed meanwhile
            continue
        if path.name.startswith(".") and now_s - stat.st_mtime > LEFT_OVER_S:
            path.unlink(missing_ok=True)
        elif path.suffix in SUFFIXES and not path.name.startswith("."):
            found.append((stat.st_mtime, path, stat.st_size))
    found.sort(reverse=True)
    kept, removed = 0.0, []
    for modified_s, path, size in found:
        kept += size
        if kept > max_bytes or now_s - modified_s > max_age_s:
            path.unlink(missing_ok=True)
            removed.append(path)
    for day in {path.parent for path in removed}:
        if not any(day.iterdir()):
            day.rmdir()
    return removed
