"""Calibrate: choose distinct frames of a calibration set, and observe what range every tensor takes on them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from edgeclip.build.frames import spread
from edgeclip.build.recipe import MINIMUM_FRAMES, Onnx, Sampling, TFLite
from edgeclip.errors import DataError
from edgeclip.progress import Progress
from edgeclip.types import Pixels

Batch = npt.NDArray[np.uint8]
THUMBNAIL = 16
SUMMARY = "calibration.json"
CALIBRATION_FRAMES = "calibration.npz"
RANGES = "ranges.json"

Range = tuple[float, float]


@dataclass
class Selection:
    """Distinct frames, preprocessed as the runtime does ([1, H, W, 3] uint8 RGB), and what was refused."""

    frames: list[Batch] = field(default_factory=list)
    blank: int = 0
    identical: int = 0
    near: int = 0

    @property
    def seen(self) -> int:
        return len(self.frames) + self.blank + self.identical + self.near


class Summary(msgspec.Struct, frozen=True):
    """What calibration records. place: the set's name. digest: of the calibration frames, whatever their order."""

    place: str
    digest: str
    frames: int
    held_out: int
    seen: int
    blank: int
    identical: int
    near: int


class Ranges(msgspec.Struct, frozen=True):
    """Smallest and largest value of every float tensor, by the graph's own tensor names."""

    onnx: dict[str, Range]
    tflite: dict[str, Range]


def select(frames: Iterable[Pixels], preprocess: Callable[[Pixels], Batch], sampling: Sampling) -> Selection:
    """Preprocess frames and keep those that are neither blank nor seen before.

    Frames are compared as the network sees them: exactly, by digest, and nearly, by a small grey thumbnail.
    """
    selection = Selection()
    digests: set[bytes] = set()
    thumbnails = np.empty((0, THUMBNAIL * THUMBNAIL), np.float32)
    for pixels in frames:
        batch = preprocess(pixels).copy()
        grey = cv2.cvtColor(batch[0], cv2.COLOR_RGB2GRAY)
        if float(grey.std()) < sampling.blank_below:
            selection.blank += 1
            continue
        digest = hashlib.sha256(batch.tobytes()).digest()
        if digest in digests:
            selection.identical += 1
            continue
        digests.add(digest)
        small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32).reshape(1, -1)
        if len(thumbnails) and float(np.abs(thumbnails - small).mean(1).min()) < sampling.near_below:
            selection.near += 1
            continue
        thumbnails = np.concatenate([thumbnails, small])
        selection.frames.append(batch)
    return selection


def require_enough(selection: Selection, place: str) -> None:
    """Raises DataError, saying what the set was made of, where fewer than 64 distinct frames remain."""
    kept = len(selection.frames)
    if kept >= MINIMUM_FRAMES:
        return
    raise DataError(
        f"calibration set {place}: {kept} distinct frames of {selection.seen}, and at least {MINIMUM_FRAMES} "
        f"are needed ({selection.identical} identical, {selection.near} nearly so, {selection.blank} blank)",
        "add varied pictures of what the camera will see, 256 to 512 of them",
    )


def hold_out(frames: list[Batch], every: int) -> tuple[list[Batch], list[Batch]]:
    """(calibration, verification): of every so many frames one is held out, while 64 remain to calibrate on."""
    spare = len(frames) - MINIMUM_FRAMES
    held = set(range(every - 1, len(frames), every)[:spare]) if spare > 0 else set()
    return (
        [frame for i, frame in enumerate(frames) if i not in held],
        [frame for i, frame in enumerate(frames) if i in held],
    )


def digest_of(frames: list[Batch]) -> str:
    digests = sorted(hashlib.sha256(frame.tobytes()).digest() for frame in frames)
    return f"sha256:{hashlib.sha256(b''.join(digests)).hexdigest()}"


def calibrate(
    frames: Iterable[Pixels],
    place: str,
    preprocess: Callable[[Pixels], Batch],
    sampling: Sampling,
    onnx: Onnx | None,
    tflite: TFLite,
    graphs: Path,
    directory: Path,
    progress: Progress,
) -> Summary:
    """Write calibration.npz (calibration [N, H, W, 3], held_out [M, H, W, 3]), ranges.json and calibration.json.

    onnx: None where a search will look at the ONNX graph itself, closer. The TFLite graph is looked at for its static
    form alone, on as many frames as the recipe says, spread over all.
    """
    selection = select(counted(frames, progress), preprocess, sampling)
    require_enough(selection, place)
    wanted = sampling.frames * sampling.hold_out // (sampling.hold_out - 1)
    used, held = hold_out(spread(selection.frames, wanted, sampling.seed), sampling.hold_out)
    stack = np.concatenate(used)
    others = np.concatenate(held) if held else np.empty((0, *stack.shape[1:]), np.uint8)
    np.savez(directory / CALIBRATION_FRAMES, calibration=stack, held_out=others)
    fewer = used[:: -(-len(used) // tflite.static_frames)] if "static" in tflite.schemes else []
    ranges = Ranges(
        observe_onnx(graphs / "image.onnx", onnx, used, progress) if onnx is not None else {},
        observe_tflite(graphs / "image.tflite", fewer, progress) if (graphs / "image.tflite").exists() else {},
    )
    (directory / RANGES).write_bytes(msgspec.json.format(msgspec.json.encode(ranges)))
    summary = Summary(
        Path(place).name,
        digest_of(used),
        len(used),
        len(held),
        selection.seen,
        selection.blank,
        selection.identical,
        selection.near,
    )
    (directory / SUMMARY).write_bytes(msgspec.json.format(msgspec.json.encode(summary)))
    return summary


def counted(frames: Iterable[Pixels], progress: Progress) -> Iterable[Pixels]:
    for frame in frames:
        progress.advance()
        yield frame


def observe_onnx(path: Path, recipe: Onnx, frames: list[Batch], progress: Progress) -> dict[str, Range]:
    from edgeclip.build import onnxgraph

    return onnxgraph.observe(path, recipe.multiply, counted(frames, progress))


def observe_tflite(path: Path, frames: list[Batch], progress: Progress) -> dict[str, Range]:
    from edgeclip.build.tflite import TFLiteGraph

    graph = TFLiteGraph(path, keep=True)
    indices = graph.activations()
    ranges: dict[str, Range] = {}
    for frame in frames:
        graph.run(frame)
        for name, index in indices.items():
            value = graph.value(index)
            low, high = ranges.get(name, (np.inf, -np.inf))
            ranges[name] = (min(low, float(value.min())), max(high, float(value.max())))
        progress.advance()
    return ranges


def load_frames(directory: Path) -> tuple[Batch, Batch]:
    """(calibration [N, H, W, 3], held out [M, H, W, 3])."""
    with np.load(directory / CALIBRATION_FRAMES) as stored:
        return stored["calibration"], stored["held_out"]


def load_summary(directory: Path) -> Summary:
    return msgspec.json.decode((directory / SUMMARY).read_bytes(), type=Summary)


def load_ranges(directory: Path) -> Ranges:
    return msgspec.json.decode((directory / RANGES).read_bytes(), type=Ranges)
