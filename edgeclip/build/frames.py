"""The frames of a calibration set: pictures in a folder or glob, tar shards, a video clip, or the word `demo`."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from edgeclip.archive import archived_files, is_archive
from edgeclip.capture.folder import FRAMES, INDEX
from edgeclip.errors import DataError
from edgeclip.picture import (
    MAX_PICTURE_BYTES,
    SUFFIXES,
    decode_picture,
    is_picture_name,
    is_utf8,
    name_of,
    read_picture,
)
from edgeclip.types import Pixels

DEMO = "demo"
VIDEOS = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".ts", ".mpg", ".mpeg"})
DEMO_STRIDE = 15  # half a second of the demo's camera between two frames
FORMS = f"a folder or glob of pictures, .tar or .tar.gz shards, a video clip, or the word {DEMO}"

T = TypeVar("T")


def frames_of(place: str, wanted: int, seed: int) -> Iterator[Pixels]:
    """[H, W, 3] uint8 BGR frames of a calibration set, spread over all of it, at most about `wanted`.

    Deterministic. Raises DataError at once for a path that is none of the forms, later for what cannot be read.
    """
    if place == DEMO:
        return demo_frames(wanted)
    return _frames(*parts_of(place), wanted, seed)


def require_frames(place: str, least: int) -> None:
    """Raises DataError for a set that holds too few pictures, without looking at any: the work before it is spared."""
    if place == DEMO:
        return
    pictures, archives, clips = parts_of(place)
    if len(pictures) < least and not archives and not clips:
        raise DataError(
            f"calibration set {place} holds {len(pictures)} picture{'s' * (len(pictures) > 1)}, and at least {least} "
            "distinct frames are needed",
            "add varied pictures of what the camera will see, 256 to 512 of them",
        )


def parts_of(place: str) -> tuple[list[Path], list[Path], list[Path]]:
    """(pictures, archives, clips). Raises DataError where there is none of them."""
    path = Path(place).expanduser()
    if path.is_dir():
        if (path / INDEX).is_file():  # written by `edgeclip capture`: its contact sheet is no frame
            path = path / FRAMES
        paths = sorted(p for p in path.rglob("*") if p.is_file())
    else:
        paths = [path] if path.is_file() else [Path(p) for p in sorted(glob.glob(place, recursive=True))]
    pictures = [path for path in paths if is_picture_name(path.name)]
    archives = [path for path in paths if is_archive(path)]
    clips = [path for path in paths if path.suffix.lower() in VIDEOS]
    if not paths and not path.is_dir():
        raise DataError(f"calibration set {place} does not exist", f"it may be {FORMS}")
    if not pictures and not archives and not clips:
        raise DataError(f"calibration set {place} holds no pictures, shards or clips", f"it may be {FORMS}")
    return pictures, archives, clips


def _frames(pictures: list[Path], archives: list[Path], clips: list[Path], wanted: int, seed: int) -> Iterator[Pixels]:
    for path in spread(pictures, wanted, seed):
        yield read_picture(path)
    for archive in archives:
        yield from archived_frames(archive, -(-wanted // len(archives)), seed)
    for clip in clips:
        yield from clip_frames(clip, -(-wanted // len(clips)))


def spread(items: list[T], wanted: int, seed: int) -> list[T]:
    """At most `wanted` of `items`, drawn from all of them, in their own order."""
    if len(items) <= wanted:
        return items
    chosen = np.sort(np.random.default_rng(seed).choice(len(items), wanted, replace=False))
    return [items[i] for i in chosen]


def archived_frames(archive: Path, wanted: int, seed: int) -> Iterator[Pixels]:
    """A uniform sample of an archive's pictures, in one pass and bounded memory (reservoir sampling).

    The archive is read to its end first: one that is cut short is refused, and gives no frame.
    """
    random = np.random.default_rng(seed)
    kept: list[tuple[str, bytes]] = []
    seen = 0
    for item in archived_files(archive, _limit_bytes):
        seen += 1
        if len(kept) < wanted:
            kept.append(item)
        elif (slot := int(random.integers(seen))) < wanted:
            kept[slot] = item
    if not seen:
        raise DataError(f"{archive} holds no pictures", f"it may hold {' '.join(sorted(SUFFIXES))}")
    for name, data in kept:
        yield decode_picture(data, f"{archive}: {name_of(Path(name))}")


def _limit_bytes(name: str) -> int:
    return MAX_PICTURE_BYTES if is_picture_name(name) else 0


def clip_frames(clip: Path, wanted: int) -> Iterator[Pixels]:
    """Frames evenly spaced over a clip; only those wanted are decoded to pixels."""
    if not is_utf8(clip):
        raise DataError(f"{name_of(clip)} is not UTF-8, and OpenCV opens films by name", "rename the file")
    capture = cv2.VideoCapture(str(clip), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise DataError(f"{clip} cannot be read as a video", "check that it plays, or extract its frames")
        total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        stride = max(1, total // wanted) if total > 0 else 1
        index = given = 0
        while given < wanted and capture.grab():
            if index % stride == 0:
                ok, pixels = capture.retrieve()
                if ok:
                    given += 1
                    yield np.asarray(pixels, np.uint8)
            index += 1
        if not given:
            raise DataError(f"{clip} holds no readable frame", "check that it plays, or extract its frames")
    finally:
        capture.release()


def demo_frames(wanted: int) -> Iterator[Pixels]:
    """Frames of the demo source over all its photographs, half a second of its camera apart."""
    from edgeclip.runtime.sources.demo import PHOTOGRAPHS, Demo

    demo = Demo(chosen=PHOTOGRAPHS)
    demo.open()
    for number in range(wanted):
        yield demo.frame(number * DEMO_STRIDE)
    demo.close()
