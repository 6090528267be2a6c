"""Training pairs in memory, and the batches cut from them: random-resized crops, flips, colour jitter."""

from __future__ import annotations

import glob
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgeclip.datasets import iter_samples
from edgeclip.errors import DataError
from edgeclip.progress import Progress, Silent

Rgb = npt.NDArray[np.uint8]
LONGEST = 2  # pictures are cut to at most this aspect ratio
STORED_SIDE = 128  # shorter side kept in memory, pixels
AHEAD = 2  # batches prepared while one is learnt from


@dataclass(frozen=True)
class PairSet:
    """Decoded pictures (one flat uint8 buffer) with their texts and a class id each.

    classes: the bare phrase of each class id (the lower-cased label, or the first text where there is none).
    """

    keys: list[str]
    texts: list[tuple[str, ...]]
    classes: list[str]
    class_ids: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.uint8]
    shapes: npt.NDArray[np.int64]  # [N, 2] height, width
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)

    def picture(self, index: int) -> Rgb:
        """[H, W, 3] uint8 RGB, a view."""
        high, wide = self.shapes[index]
        start = self.offsets[index]
        return self.pixels[start : start + high * wide * 3].reshape(high, wide, 3)

    def pictures(self) -> Iterator[Rgb]:
        return (self.picture(index) for index in range(len(self)))


def read_pairs(patterns: Sequence[str], progress: Progress | None = None) -> PairSet:
    """Decode every pair of the data sets named (globs allowed). Raises DataError where there is none."""
    progress = progress or Silent()
    paths = sorted({path for pattern in patterns for path in (glob.glob(pattern) or [pattern])})
    keys: list[str] = []
    texts: list[tuple[str, ...]] = []
    names: list[str] = []
    rows: list[npt.NDArray[np.uint8]] = []
    shapes: list[tuple[int, int]] = []
    progress.stage("reading pairs")
    for path in paths:
        stem = Path(path).name.split(".")[0]
        for sample in iter_samples(path):
            phrases = tuple(sample.texts) or ((sample.label,) if sample.label else ())
            if not phrases:
                raise DataError(f"{path}: {sample.key} has no text", 'give it "texts" or a "label"')
            rgb = _bounded(sample.pixels)
            keys.append(f"{stem}/{sample.key}")
            texts.append(phrases)
            names.append((sample.label or phrases[0]).lower())
            shapes.append((rgb.shape[0], rgb.shape[1]))
            rows.append(rgb.reshape(-1))
            progress.advance(1)
    progress.done()
    if not rows:
        raise DataError(f"no pairs in {', '.join(patterns)}", "name tar shards, class folders or a CSV of path,text")
    classes = sorted(set(names))
    number = {name: index for index, name in enumerate(classes)}
    sizes = np.array([row.size for row in rows], np.int64)
    return PairSet(
        keys=keys,
        texts=texts,
        classes=classes,
        class_ids=np.array([number[name] for name in names], np.int64),
        pixels=np.concatenate(rows),
        shapes=np.array(shapes, np.int64),
        offsets=np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64),
    )


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text file that are not blank, stripped. Raises DataError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}", "check the path and that it is UTF-8 text") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def bare_phrases(pairs: PairSet) -> set[str]:
    """Every class phrase and every text."""
    return set(pairs.classes).union(*pairs.texts)


def _bounded(bgr: npt.NDArray[np.uint8]) -> Rgb:
    """BGR of any size -> contiguous RGB, at most STORED_SIDE on the shorter side and LONGEST in aspect."""
    high, wide = bgr.shape[:2]
    if max(high, wide) > LONGEST * min(high, wide):
        keep = LONGEST * min(high, wide)
        top, left = max(0, (high - keep) // 2), max(0, (wide - keep) // 2)
        bgr = bgr[top : top + keep, left : left + keep]
        high, wide = bgr.shape[:2]
    scale = STORED_SIDE / min(high, wide)
    if scale < 1:
        bgr = _resized(bgr, round(wide * scale), round(high * scale), cv2.INTER_AREA)
    return np.ascontiguousarray(bgr[:, :, ::-1])


def _resized(picture: npt.NDArray[np.uint8], wide: int, high: int, method: int) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (wide, high), interpolation=method), np.uint8)


def centre_square(rgb: Rgb, side: int) -> Rgb:
    """The centre square, resized with antialiasing where it shrinks."""
    high, wide = rgb.shape[:2]
    edge = min(high, wide)
    top, left = (high - edge) // 2, (wide - edge) // 2
    method = cv2.INTER_AREA if edge >= side else cv2.INTER_LINEAR
    return _resized(rgb[top : top + edge, left : left + edge], side, side, method)


def random_view(rgb: Rgb, side: int, crop: tuple[float, float], rng: np.random.Generator) -> Rgb:
    """Random-resized crop (area fraction in `crop`, aspect 3/4 to 4/3), flip, and brightness/contrast/colour jitter."""
    high, wide = rgb.shape[:2]
    area = high * wide * rng.uniform(*crop)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    w = min(wide, max(8, round(float(np.sqrt(area * aspect)))))
    h = min(high, max(8, round(float(np.sqrt(area / aspect)))))
    top, left = rng.integers(0, high - h + 1), rng.integers(0, wide - w + 1)
    method = cv2.INTER_AREA if min(h, w) > side else cv2.INTER_LINEAR
    view: Any = _resized(rgb[top : top + h, left : left + w], side, side, method)
    if rng.random() < 0.5:
        view = cv2.flip(view, 1)
    if rng.random() < 0.8:
        gain = rng.uniform(0.7, 1.3) * rng.uniform(0.92, 1.08, 3)
        scalar: Any = (*gain.tolist(), 0.0)  # as OpenCV takes it, whatever its stubs say
        view = cv2.multiply(view, scalar)
    if rng.random() < 0.1:
        grey = cv2.cvtColor(view, cv2.COLOR_RGB2GRAY)
        view = cv2.merge((grey, grey, grey))
    return np.asarray(view, np.uint8)


@dataclass(frozen=True)
class Batch:
    """indices [B] into the set; pixels [B, side, side, 3] uint8 RGB (empty where the phase needs none)."""

    indices: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.uint8]


def epoch_batches(
    pairs: PairSet,
    among: npt.NDArray[np.int64],
    batch: int,
    side: int,
    crop: tuple[float, float],
    seed: tuple[int, ...],
    skip: int = 0,
) -> Iterator[Batch]:
    """One epoch over the indices `among`, whole batches only, prepared two ahead on a thread. side 0: indices only.

    Order and augmentation are functions of `seed` and the batch number alone, so a resumed run that
    skips `skip` batches sees what it would have seen.
    """
    order = np.random.default_rng(seed).permutation(among)
    count = len(order) // batch

    def cut(number: int) -> Batch:
        indices = order[number * batch : (number + 1) * batch]
        rng = np.random.default_rng((*seed, number))
        pixels = np.empty((len(indices) if side else 0, side, side, 3), np.uint8)
        for row, index in enumerate(indices if side else ()):
            pixels[row] = random_view(pairs.picture(index), side, crop, rng)
        return Batch(indices, pixels)

    ahead: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(1, "batches") as worker:
        try:
            for number in range(skip, count):
                ahead.append(worker.submit(cut, number))
                if len(ahead) > AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for waiting in ahead:
                waiting.cancel()
