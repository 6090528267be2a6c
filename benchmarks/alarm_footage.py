"""Photographs turned into hours of video, embedded once: footage for benchmarks/false_alarms.py.

A shot shows one photograph for 4 to 30 s through a crop that pans and zooms slowly; brightness drifts over minutes and
hours, the sensor is noisy, shots fade into each other. Photographs of tuning and of holding out are disjoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgeclip.bundle import Bundle
from edgeclip.datasets import iter_samples
from edgeclip.progress import Progress
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.types import Embeddings, Pixels

FPS = 1.0
FADE_FRAMES = 1
WIDTH, HEIGHT = 128, 96
NOISE = 3.0  # grey levels, standard deviation

# watch: (its own pictures, pictures left out of the background because they may show it as well)
WATCHES = {
    "a garbage truck": (r"^garbage truck$", r"truck"),
    "a school bus": (r"^school bus$", r"\bbus\b"),
    "an airplane": (r"^airplane$", r"air|missile"),
    "a sailboat": (r"^(sailboat|sailing boat|catamaran)$", r"sail|catamaran|schooner|ferry|ship|coast"),
    "a motorbike": (r"^motorbike$", r"motor"),
    "a cat": (r"^cat$|cat$", r"\bcat\b"),
    "a lion": (r"^lion$", r"lion|cougar"),
    "a leopard": (r"^leopard$", r"leopard|cougar"),
    "an electric guitar": (r"^electric guitar$", r"guitar|banjo|mandolin|cello"),
    "a piano": (r"^(upright|grand) piano$", r"piano|organ|accordion"),
    "a frying pan": (r"^frying pan$", r"\bpan\b|wok|ladle|stove"),
    "a wristwatch": (r"^wristwatch$", r"watch|clock"),
    "a jellyfish": (r"^jellyfish$", r"jellyfish"),
    "a butterfly": (r"^butterfly$", r"butterfly|dragonfly|mayfly"),
    "a church": (r"^church$", r"church|dome|minaret|pagoda"),
    "a parachute": (r"^parachute$", r"parachute|balloon"),
}


@dataclass(frozen=True)
class Photographs:
    """background: of nothing that is watched for. positives: by watch."""

    background: list[Pixels]
    positives: dict[str, list[Pixels]]


def photographs(data: str, seed: int = 0) -> tuple[Photographs, Photographs]:
    """Disjoint halves: to tune on, and held out."""
    anywhere = re.compile("|".join(related for _, related in WATCHES.values()))
    background: list[Pixels] = []
    positives: dict[str, list[Pixels]] = {name: [] for name in WATCHES}
    for sample in iter_samples(data):
        label = sample.label.lower()
        for name, (own, _) in WATCHES.items():
            if re.search(own, label):
                positives[name].append(sample.pixels)
        if label and not anywhere.search(" ".join([label, *sample.texts]).lower()):
            background.append(sample.pixels)
    order = np.random.default_rng(seed).permutation(len(background)).tolist()
    return tuple(  # type: ignore[return-value]
        Photographs(
            [background[index] for index in order[half::2]], {name: some[half::2] for name, some in positives.items()}
        )
        for half in (0, 1)
    )


class Day:
    """What the light does: minutes and hours of drift, and noise. One per film."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self._phase = self.random.uniform(0.0, 2.0 * np.pi, 3)
        self._noise = self.random.normal(0.0, NOISE, 1 << 22).astype(np.float32)

    def apply(self, pixels: Pixels, at_s: float) -> Pixels:
        periods_s = np.array([86_400.0, 5400.0, 400.0])
        gain = 1.0 + float(np.array([0.22, 0.12, 0.05]) @ np.sin(2.0 * np.pi * at_s / periods_s + self._phase))
        start = int(self.random.integers(len(self._noise) - pixels.size))
        noisy = pixels * np.float32(gain) + self._noise[start : start + pixels.size].reshape(pixels.shape)
        return np.clip(noisy, 0, 255, out=noisy).astype(np.uint8)


def shot(picture: Pixels, frames: int, random: np.random.Generator) -> Iterator[Pixels]:
    """[HEIGHT, WIDTH, 3]: a crop of 70 to 100 % of the picture that wanders."""
    height, width = picture.shape[:2]
    aspect = WIDTH / HEIGHT
    tall = min(height, width / aspect)
    (zoom_from, zoom_to), ends = random.uniform(0.7, 1.0, 2), random.uniform(0.0, 1.0, (2, 2))
    for number in range(frames):
        share = number / max(frames - 1, 1)
        high = tall * (zoom_from + (zoom_to - zoom_from) * share)
        wide = high * aspect
        across, down = ends[0] + (ends[1] - ends[0]) * share
        left, top = across * (width - wide), down * (height - high)
        part = picture[int(top) : int(top + high), int(left) : int(left + wide)]
        yield cv2.resize(part, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA if high > HEIGHT else cv2.INTER_LINEAR)


def film(shots: Sequence[tuple[Pixels, int]], day: Day) -> Iterator[Pixels]:
    """Shots of so many frames, one after the other, faded into each other."""
    before: Pixels | None = None
    count = 0
    for picture, frames in shots:
        last = before
        for number, pixels in enumerate(shot(picture, frames, day.random)):
            if last is not None and number < FADE_FRAMES:
                share = (number + 1) / (FADE_FRAMES + 1)
                pixels = cv2.addWeighted(pixels, share, last, 1.0 - share, 0.0)
            yield day.apply(pixels, count / FPS)
            count += 1
            before = pixels


def background_shots(pictures: Sequence[Pixels], frames: int, random: np.random.Generator) -> list[tuple[Pixels, int]]:
    """Every photograph once in random order, then all again in another, until the frames are full."""
    shots, left = [], frames
    while left > 0:
        for index in random.permutation(len(pictures)).tolist():
            length = min(int(random.uniform(4.0, 30.0) * FPS), left)
            shots.append((pictures[index], length))
            left -= length
            if left <= 0:
                break
    return shots


def clip_frames(path: str, seconds: float, part: tuple[float, float], day: Day) -> Iterator[Pixels]:
    """A real clip's frames between two shares of it, looped for so long, with a jittered crop and drifting light."""
    capture = cv2.VideoCapture(path)
    every = max(1, round(capture.get(cv2.CAP_PROP_FPS) / FPS))
    frames = []
    while True:
        read, pixels = capture.read()
        if not read:
            break
        frames.append(cv2.resize(pixels, (320, 180), interpolation=cv2.INTER_AREA))
    frames = frames[int(part[0] * len(frames)) : int(part[1] * len(frames))]
    count, index = 0, 0
    while count < seconds * FPS:
        offset = int(day.random.integers(every))  # each round sees other frames of the clip
        left, top = day.random.uniform(0.0, 0.1, 2)
        for index in range(offset, len(frames), every):
            y, x = int(top * 180), int(left * 320)
            yield day.apply(frames[index][y : y + 162, x : x + 288], count / FPS)
            count += 1


def embed(frames: Iterator[Pixels], bundle: Bundle, path: Path, total: int, progress: Progress) -> Embeddings:
    """[N, D] float16, kept in `path` for the next run."""
    if path.exists():
        return np.load(path).astype(np.float32)
    engine, preprocess = load_engine(bundle, "image", threads=1), Preprocessor(bundle.manifest.preprocess)
    progress.stage(path.stem, total)
    rows: list[npt.NDArray[np.float16]] = []
    for pixels in frames:
        rows.append(engine.run(preprocess(pixels))[0].astype(np.float16))
        progress.advance()
    engine.close()
    progress.done()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        np.save(stream, np.stack(rows))
    return np.stack(rows).astype(np.float32)
