"""The reference the runtime's preprocessing is held to: Pillow's antialiased resize, as training uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np
import numpy.typing as npt

from edgeclip.bundle import Preprocess
from edgeclip.errors import DataError
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.types import Embeddings, Pixels

Batch = npt.NDArray[np.uint8]  # [1, H, W, 3] RGB

# (height, width): cameras' sizes, portrait, panorama, and smaller than any engine's input.
SIZES = (
    (480, 640), (720, 1280), (1080, 1920), (1280, 720), (600, 600), (300, 1500), (97, 131), (64, 48), (1536, 2048),
    (333, 500), (240, 320), (1080, 1440),
)  # fmt: skip


def reference(pixels: Pixels, facts: Preprocess) -> Batch:
    """Pixels [h, w, 3] uint8 BGR as Pillow's resize and torchvision's CenterCrop give them: [1, H, W, 3] uint8 RGB."""
    from PIL import Image

    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    height, width = pixels.shape[:2]
    rows, columns = facts.size
    if facts.resize == "squash":
        scaled_height, scaled_width = rows, columns
    elif height * columns >= width * rows:
        scaled_height, scaled_width = max(rows, int(columns * height / width)), columns
    else:
        scaled_height, scaled_width = rows, max(columns, int(rows * width / height))
    picture = Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1]))
    picture = picture.resize((scaled_width, scaled_height), filters[facts.interpolation])
    top = round((scaled_height - rows) / 2.0)
    left = round((scaled_width - columns) / 2.0)
    return np.asarray(picture.crop((left, top, left + columns, top + rows)))[None]


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """The centre of a photograph at another size and aspect ratio."""
    tall, wide = pixels.shape[:2]
    part_height = min(tall, max(1, round(wide * height / width)))
    part_width = min(wide, max(1, round(tall * width / height)))
    top, left = (tall - part_height) // 2, (wide - part_width) // 2
    part = pixels[top : top + part_height, left : left + part_width]
    shrinks = height < part_height
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (width, height), interpolation=interpolation), np.uint8)


def parity(
    frames: Iterable[Pixels], facts: Preprocess, embed_rows: Callable[[Batch], Embeddings] | None = None
) -> dict[str, float]:
    """How near the runtime's preprocessing is to the reference, over photographs [h, w, 3] uint8 BGR.

    Each is measured as it is and at one of SIZES, in turn. embed_rows: [1, H, W, 3] -> [1, D] unit vectors.
    Returns pictures; mae, mae_p99 and mae_max, the mean absolute difference in grey levels (0..255) of all, the 99th
    percentile over pictures, and the worst picture's; with embed_rows also cosine, cosine_p1 and cosine_min of the two
    embeddings. DataError without any frame.
    """
    ours = Preprocessor(facts)
    errors: list[float] = []
    cosines: list[float] = []
    for pixels in _as_they_are_and_resized(frames):
        expected, got = reference(pixels, facts), ours(pixels)
        errors.append(float(np.abs(expected.astype(np.int16) - got).mean()))
        if embed_rows is not None:
            first = np.array(embed_rows(expected)[0], np.float64)
            second = np.array(embed_rows(got)[0], np.float64)
            cosines.append(float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second))))
    if not errors:
        raise DataError("preprocessing parity needs at least one photograph", "give the build some")
    figures = {"pictures": float(len(errors)), "mae": float(np.mean(errors)), "mae_max": max(errors)}
    figures["mae_p99"] = float(np.percentile(errors, 99))
    if cosines:
        figures |= {
            "cosine": float(np.mean(cosines)),
            "cosine_p1": float(np.percentile(cosines, 1)),
            "cosine_min": min(cosines),
        }
    return figures


def _as_they_are_and_resized(frames: Iterable[Pixels]) -> Iterator[Pixels]:
    for number, pixels in enumerate(frames):
        yield pixels
        yield resized(pixels, *SIZES[number % len(SIZES)])
