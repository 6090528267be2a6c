"""The set as it grows: every frame is judged, compared with what is kept, and kept or not."""

from __future__ import annotations

import math
import time

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from edgeclip.bundle import Bundle
from edgeclip.capture.diversity import Floats, Pool
from edgeclip.capture.folder import CaptureFolder, Counts, Row, Tick
from edgeclip.capture.quality import MIN_SHARPNESS, judge, thumbnail
from edgeclip.capture.shown import Shown
from edgeclip.errors import DataError
from edgeclip.picture import read_picture
from edgeclip.progress import Progress, duration
from edgeclip.runtime.ahead import Prepared
from edgeclip.runtime.golden import ConstantGuard, load_golden
from edgeclip.runtime.preprocess import Batch, Preprocessor
from edgeclip.runtime.rows import Rows
from edgeclip.runtime.sinks.jsonl import utc
from edgeclip.types import Engine, Frame, Pixels

NEAR_BELOW = 1.1  # grey levels between thumbnails; `edgeclip build` takes two frames for one below 1.0
NOISE = 1.0  # grey levels, standard deviation: what is left of a camera's own at the size the engine sees
PNG_COMPRESSION = 1  # zlib's fastest: nearly as small as its default on a camera's noise
PAUSE_S = 1.0  # a longer one between two frames is an outage: nothing new could have come in it
FIRST_TICK_S, TICKS = 0.1, 300  # the time between ticks grows with the capture: a month's history is a few thousand
LATEST = 20  # frames kept last, whose distances tell how new the scene still is


class Collector:
    """What is kept in memory of a folder that is being captured into.

    capacity: frames to keep at most; where the folder holds more already, all of these.
    counts: over all runs. new: frames kept by this one. idle_s: watched since one was kept.
    """

    def __init__(
        self, folder: CaptureFolder, engine: Engine, bundle: Bundle, capacity: int, min_sharpness: float = MIN_SHARPNESS
    ) -> None:
        capacity = max(capacity, len(folder.rows))
        last = folder.history[-1] if folder.history else Tick(0.0, 0, Counts())
        self.pool = Pool(capacity, bundle.manifest.dim, noise_floor(engine, bundle))
        self.counts = msgspec.structs.replace(last.counts)
        self.new = 0
        self.idle_s = 0.0
        self.shown: list[Shown] = []  # by slot of the pool
        self._folder = folder
        self._run = Rows(engine).run
        self._guard = ConstantGuard()
        self._min_sharpness = min_sharpness
        self._thumbnails = np.full((capacity, thumbnail(np.zeros((32, 32), np.uint8)).size), np.inf, np.float32)
        self._novelty: list[float] = []  # since the last tick
        self._earlier_s = last.seconds
        self._began_s = self._seen_s = self._ticked_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Of this run."""
        return time.monotonic() - self._began_s

    @property
    def closest(self) -> float | None:
        """Distance of the closest pair kept."""
        return round(self.pool.closest, 4) if self.pool.count > 1 else None

    @property
    def neighbour(self) -> float | None:
        """Distance from a frame to its nearest neighbour, median."""
        return round(float(np.median(self.pool.nearest())), 4) if self.pool.count > 1 else None

    @property
    def latest(self) -> float | None:
        """Median distance of the frames kept last, each when it came."""
        newest = [row.distance for row in list(self._folder.rows.values())[-LATEST:] if row.distance is not None]
        return round(float(np.median(newest)), 4) if newest else None

    def read_back(self, preprocess: Preprocessor, progress: Progress) -> None:
        """Embed what earlier runs have kept. To be called before the first look(). Raises DataError."""
        for row in self._folder.rows.values():
            pixels = read_picture(self._folder.path(row.file))
            batch = preprocess(pixels)
            self._enter(self.pool.count, row, pixels, self._run(batch)[0], thumbnail(_grey(batch)))
            progress.advance()
        self._began_s = self._seen_s = self._ticked_s = time.monotonic()

    def look(self, prepared: Prepared) -> None:
        """Judge one frame, and keep it where it is worth it. Raises EngineError, ConfigError where the disk is full."""
        frame, seen = prepared.frame, _grey(prepared.batch)
        now_s = time.monotonic()
        self.idle_s += min(now_s - self._seen_s, PAUSE_S)
        self._seen_s = now_s
        self.counts.seen += 1
        quality = judge(frame.pixels, seen, self._min_sharpness)
        if quality.fault is not None:
            setattr(self.counts, quality.fault, getattr(self.counts, quality.fault) + 1)
            return
        rows = self._run(prepared.batch)
        self._guard.check(prepared.batch, rows)
        offer = self.pool.offer(rows[0])
        if math.isfinite(offer.distance):
            self._novelty.append(offer.distance)
        small = thumbnail(seen)
        if offer.distance <= self.pool.floor or self._looks_kept(small):
            self.counts.near += 1
        elif offer.slot is None:
            self.counts.redundant += 1
        else:
            row = self._row(frame, quality.sharpness, offer.distance, offer.slot)
            self._folder.add(row, _png(frame.pixels))
            self._enter(offer.slot, row, frame.pixels, rows[0], small)
            self.counts.replaced += row.replaces is not None
            self.new += 1
            self.idle_s = 0.0

    def tick(self, force: bool = False) -> None:
        """Write a line of history where it is time."""
        now_s, seconds = time.monotonic(), self._earlier_s + self.elapsed_s
        if not force and now_s - self._ticked_s < max(FIRST_TICK_S, seconds / TICKS):
            return
        self._ticked_s = now_s
        novelty = self._novelty
        self._folder.note(
            Tick(
                seconds=round(seconds, 3),
                kept=self.pool.count,
                counts=msgspec.structs.replace(self.counts),
                novelty=round(float(np.median(novelty)), 4) if novelty else None,
                novelty_most=round(max(novelty), 4) if novelty else None,
                closest=self.closest,
            )
        )
        novelty.clear()

    def __str__(self) -> str:
        counts = self.counts
        left_out = {name: getattr(counts, name) for name in ("near", "redundant", "blurred", "dark", "blank")}
        said = ", ".join(f"{count:,} {name}" for name, count in left_out.items() if count)
        parts = [f"{self.pool.count} of {self.pool.capacity} kept", f"{counts.seen:,} seen" + (said and f" ({said})")]
        if self.latest is not None:
            parts.append(f"the last ones {self.latest:.3f} from their nearest, the closest two {self.closest:.3f}")
        if self.idle_s >= 5.0:
            parts.append(f"nothing new for {duration(self.idle_s)}")
        return "; ".join(parts)

    def _row(self, frame: Frame, sharp: float, distance: float, slot: int) -> Row:
        return Row(
            file=self._folder.next_file(),
            time=utc(frame.wall_ns),
            source=frame.source,
            frame=frame.index,
            seconds=round(self._earlier_s + self.elapsed_s, 3),
            sharpness=round(sharp, 1),
            distance=round(distance, 4) if math.isfinite(distance) else None,
            replaces=self.shown[slot].row.file if slot < len(self.shown) else None,
        )

    def _enter(self, slot: int, row: Row, pixels: Pixels, embedding: Floats, small: Floats) -> None:
        self.pool.put(slot, embedding)
        self._thumbnails[slot] = small
        self.shown[slot : slot + 1] = [Shown.of(row, pixels)]

    def _looks_kept(self, small: Floats) -> bool:
        kept = self._thumbnails[: self.pool.count]
        return bool(len(kept)) and float(np.abs(kept - small).mean(axis=1).min()) < NEAR_BELOW


def noise_floor(engine: Engine, bundle: Bundle) -> float:
    """How far this engine's embedding moves for what nobody sees: the bundle's golden frames and the same with a
    camera's noise. Frames that are nearer than this are one. Median; no figure has to be set for an embedding space."""
    frames, run = load_golden(bundle).frames, Rows(engine).run
    noise = np.random.default_rng(0).normal(0.0, NOISE, frames.shape)
    noisy = np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)
    moved = [
        np.linalg.norm(run(plain[np.newaxis])[0].copy() - run(other[np.newaxis])[0])
        for plain, other in zip(frames, noisy, strict=True)
    ]
    return float(np.median(moved))


def _grey(batch: Batch) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(batch[0], cv2.COLOR_RGB2GRAY), np.uint8)


def _png(pixels: Pixels) -> bytes:
    done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])
    if not done:
        raise DataError(f"a frame of shape {list(pixels.shape)} cannot be written as PNG", "check the source")
    return data.tobytes()
