"""Embeddings of frames that a bundle was built with: pictures of whatever, which taught labels are told from."""

from __future__ import annotations

import numpy as np

from edgeclip.bundle import MOST_FRAMES, Bundle
from edgeclip.errors import DataError
from edgeclip.npz import npz_bytes, read_npz
from edgeclip.runtime.golden import load_golden
from edgeclip.types import Embeddings

FEWEST_FRAMES = 8
UNIT = 0.01  # by which a length may differ from 1
HEADERS_BYTES = 4096  # more than the array takes


def pictures(bundle: Bundle) -> Embeddings:
    """[B, D] float32 unit vectors: of the frames that the bundle carries, or of its golden ones where it carries none.

    Raises DataError where the file is not what it should be.
    """
    carried = load_frames(bundle)
    return load_golden(bundle).embeddings if carried is None else carried


def load_frames(bundle: Bundle) -> Embeddings | None:
    """[N, D] float32 unit vectors, None where the bundle carries none.

    Raises DataError where the file is no such archive, holds fewer than 8 or more than 4096 rows, or rows that are not
    float16 of unit length and as many dimensions as the manifest says.
    """
    if bundle.manifest.frames is None:
        return None
    path, dim = bundle.file(bundle.manifest.frames), bundle.manifest.dim
    hint = "copy or build the bundle again"
    try:
        (stored,) = read_npz(path, "embeddings", most_bytes=2 * MOST_FRAMES * dim + HEADERS_BYTES)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} holds no embeddings of frames: {error}", hint) from error
    if stored.dtype != np.float16 or stored.ndim != 2 or stored.shape[1] != dim:
        raise DataError(f"{path}: embeddings {stored.dtype} {list(stored.shape)} do not fit the manifest", hint)
    if not FEWEST_FRAMES <= len(stored) <= MOST_FRAMES:
        raise DataError(f"{path}: {len(stored)} frames, and {FEWEST_FRAMES} to {MOST_FRAMES} may be there", hint)
    rows = stored.astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1)
    if not (np.abs(lengths - 1.0) < UNIT).all():  # false for what is not finite too
        raise DataError(f"{path}: embeddings that are not unit vectors", hint)
    unit: Embeddings = rows / lengths[:, np.newaxis]
    return unit


def frames_file(embeddings: Embeddings) -> bytes:
    """The bytes of frames.npz of embeddings [N, D]; the same every time."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return npz_bytes(embeddings=unit.astype(np.float16))
