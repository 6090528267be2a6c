"""Pictures to teach with: files, folders and patterns, or some seconds of a source."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgeclip.bundle import Bundle
from edgeclip.capture.collector import noise_floor
from edgeclip.capture.diversity import Pool
from edgeclip.datasets import find_images
from edgeclip.errors import DataError
from edgeclip.picture import name_of, read_picture
from edgeclip.progress import Progress
from edgeclip.runtime.ahead import Ahead
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.runtime.rows import Rows
from edgeclip.runtime.sources import open_source
from edgeclip.runtime.supervisor import Supervisor
from edgeclip.types import Engine, Frame, Pixels

THUMBNAIL = 144  # longer side


@dataclass(frozen=True)
class Taken:
    """One picture. batch: [1, H, W, 3] uint8 RGB as the engine sees it; embedding: [D]; thumbnail: a JPEG."""

    origin: str
    batch: npt.NDArray[np.uint8]
    embedding: npt.NDArray[np.float32]
    thumbnail: bytes


def from_files(places: Sequence[str], bundle: Bundle, engine: Engine, progress: Progress) -> Iterator[Taken]:
    """A file that is named and cannot be read is an error; within a folder or a pattern it is told and passed over."""
    preprocess, run = Preprocessor(bundle.manifest.preprocess), Rows(engine).run
    progress.stage("shots")
    for place in places:
        named = Path(place).is_file()
        for path in [Path(place)] if named else find_images(place):
            try:
                pixels = read_picture(path)
            except DataError as error:
                if named:
                    raise
                progress.note(f"left out: {error.message}")
                continue
            batch = preprocess(pixels).copy()
            yield Taken(name_of(path.absolute()), batch, np.array(run(batch)[0]), thumbnail(pixels))
            progress.advance()
    progress.done()


def from_source(
    uri: str, seconds: float, most: int, bundle: Bundle, engine: Engine, stop: Callable[[], bool], progress: Progress
) -> list[Taken]:
    """The frames of `seconds` that differ most from each other, at most `most`. Raises SourceError."""
    kept, run = dict[int, Taken](), Rows(engine).run
    pool = Pool(most, bundle.manifest.dim, noise_floor(engine, bundle))
    feed = Supervisor(functools.partial(open_source, uri), on_event=progress.note)
    progress.stage(f"up to {most} shots of {seconds:g} s")
    began_ns: int | None = None
    with ExitStack() as stack:
        stack.enter_context(feed)
        fps = None if feed.source.live else feed.source.fps
        ahead = stack.enter_context(Ahead([feed], functools.partial(Preprocessor, bundle.manifest.preprocess)))
        for prepared in ahead.frames(stop):
            now_ns = _clock_ns(prepared.frame, fps)
            began_ns = now_ns if began_ns is None else began_ns
            if now_ns - began_ns > seconds * 1e9:
                break
            embedding = np.array(run(prepared.batch)[0])
            slot = pool.offer(embedding).slot
            if slot is not None:
                pool.put(slot, embedding)
                frame = prepared.frame
                origin = f"{frame.source} frame {frame.index}"
                kept[slot] = Taken(origin, prepared.batch.copy(), embedding, thumbnail(frame.pixels))
                progress.advance()
    progress.done()
    if not kept:
        raise DataError(f"{feed.source.name}: no frame came within {seconds:g} s", "give it more --seconds")
    return [kept[slot] for slot in sorted(kept)]


def thumbnail(pixels: Pixels) -> bytes:
    """A JPEG of [H, W, 3] BGR, its longer side at most THUMBNAIL."""
    scale = min(THUMBNAIL / max(pixels.shape[:2]), 1.0)
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def _clock_ns(frame: Frame, fps: float | None) -> int:
    return frame.captured_ns if fps is None else round(frame.index / fps * 1e9)
