"""The nouns every stage shares: frame, label, text bank, decision. Data only; imports nothing of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]  # [H, W, 3] BGR, as OpenCV delivers it
Embeddings = npt.NDArray[np.float32]  # [N, D], unit length

Outline = tuple[tuple[float, float], ...]  # corners (x, y) in fractions of the frame

UNKNOWN = "unknown"  # shown in place of a label


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture and when it was taken.

    pixels: [H, W, 3] uint8 BGR; owned by this frame, never reused by the source.
    index: position in the source, from 0; gaps are frames that were dropped.
    captured_ns: time.monotonic_ns() when the source delivered it (ages are differences of this clock).
    wall_ns: time.time_ns() at the same moment (for people and logs only).
    source: the source's name, credentials removed.
    picture: path of its file, where the source is a folder or a pattern of pictures.
    """

    pixels: Pixels
    index: int
    captured_ns: int
    wall_ns: int
    source: str
    picture: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """A name shown to people, and the prompts it stands for (empty: the bundle's templates apply)."""

    name: str
    prompts: tuple[str, ...] = ()


class Refinement(Protocol):
    """What taught pictures add to the similarities [N, L] of images [N, D] with a bank's texts, in place."""

    def add(self, image: Embeddings, similarities: npt.NDArray[np.float32]) -> None: ...


class Shown(Protocol):
    """What taught pictures say of a frame by themselves."""

    def known(self, image: Embeddings) -> float:
        """Log-odds that an image [1, D] shows one of the taught labels."""

    def blend(self, odds: npt.NDArray[np.float32], images: Embeddings) -> None:
        """Into log-odds [W] by texts, of images [W, D], in place."""


@dataclass(frozen=True, slots=True)
class TextBank:
    """Label names and their text embeddings [L, D] float32, unit length, in one embedding space.

    refinement, shown: where labels of it were taught with pictures.
    """

    names: tuple[str, ...]
    embeddings: Embeddings
    space: str
    refinement: Refinement | None = None
    shown: Shown | None = None


@dataclass(frozen=True, slots=True)
class WatchState:
    """One watch on one frame.

    probability: 0..1, calibrated and smoothed. enter: what it must reach to begin. on: whether it holds now.
    outline: of its region; none: all of the frame.
    """

    name: str
    probability: float
    enter: float
    on: bool
    outline: Outline = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A watch that began or ceased to hold with this frame.

    on: True where it began. began_ns, began_wall_ns: capture of the first frame that counted towards it, by the
    monotonic and by the wall clock. probability: at this frame; peak: the highest since it began. enter: the threshold.
    reason: why it ceased ("left", "watches changed", "source ended"), "" where it began.
    """

    watch: str
    on: bool
    began_ns: int
    began_wall_ns: int
    probability: float
    peak: float
    enter: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one frame was taken to show.

    names: the L labels in force when it was decided; scores: [L] float32, smoothed, aligned with names.
    order: label indices, best first, at most top_k of them.
    age_ns: capture to decision. drops: frames discarded so far because newer ones came.
    fps: decisions per second, smoothed over about a second; 0.0 until known.
    watches: every watch in force, in its file's order. changes: those that began or ceased with this frame.
    unknown: 0..1, smoothed: that the frame shows nothing that was asked; 0 where that is not asked.
    closing: no frame of its own: the last one's once more, because the source ended and watches ceased with it.
    picture: the frame's.
    """

    frame_index: int
    source: str
    captured_ns: int
    wall_ns: int
    age_ns: int
    names: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    order: tuple[int, ...]
    drops: int
    fps: float
    watches: tuple[WatchState, ...] = ()
    changes: tuple[Change, ...] = ()
    unknown: float = 0.0
    closing: bool = False
    picture: str = ""

    @property
    def label(self) -> str:
        """The best label, UNKNOWN where that is likelier, "" where there are no labels."""
        if self.is_unknown:
            return UNKNOWN
        return self.names[self.order[0]] if self.order else ""

    @property
    def score(self) -> float:
        """Of `label`."""
        if self.is_unknown:
            return self.unknown
        return float(self.scores[self.order[0]]) if self.order else 0.0

    @property
    def is_unknown(self) -> bool:
        return self.unknown >= 0.5


class Source(Protocol):
    """Where frames come from. No retry, no thread, no clock in here: the supervisor owns those.

    open() and read() raise SourceError. read() returns pixels, or None at the end (finite sources only).
    live: newest frame wins and a loss is retried; otherwise every frame is used, in order, once.
    paced: read() does not wait for the next picture, and the supervisor plays it at fps (a file in real time, demo).
    fps: nominal rate, or None where the source does not know (or not before open()).
    max_fps: the supervisor hands on at most this many frames a second; None for all.
    A source of many files also has `picture`, the path of the one read last.
    """

    name: str
    live: bool
    paced: bool
    fps: float | None
    max_fps: float | None

    def open(self) -> None: ...
    def read(self) -> Pixels | None: ...
    def close(self) -> None: ...


class Engine(Protocol):
    """A compiled encoder. Image: [N, H, W, 3] uint8 RGB -> [N, D]; text: [N, T] int32 ids -> [N, D].

    Output rows are float32 unit vectors. input_shape is the shape it was compiled for, N first.
    run() may return a view into the engine's own buffer, valid until the next run().
    """

    input_shape: tuple[int, ...]
    input_dtype: np.dtype[Any]
    runtime: str  # e.g. "LiteRT 2.3.0, 2 threads"

    def run(self, batch: npt.NDArray[Any]) -> Embeddings: ...
    def close(self) -> None: ...


class Sink(Protocol):
    """Where decisions go. write() is called once per decision, in order, always on the same thread.

    open() and close() come from the thread that starts and ends the run; nothing is written outside of them.
    """

    def open(self) -> None: ...
    def write(self, decision: Decision, frame: Frame) -> None: ...
    def close(self) -> None: ...


Labels = Sequence[Label]
