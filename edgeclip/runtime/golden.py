"""The self-test: golden frames whose float embeddings the bundle holds, and a watch for an output that never changes.

An engine that a driver, a thermal fault or a bad file has broken goes on returning vectors; this is what notices.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeclip.bundle import Bundle
from edgeclip.errors import DataError, EngineError
from edgeclip.npz import read_npz
from edgeclip.types import Embeddings, Engine

MIN_COSINE = 0.95  # of every golden frame to its float embedding
# Of all on average, after the mean embedding is subtracted: a collapsed tower keeps the plain cosine and loses this.
# `edgeclip build` asks for 0.99; the rest is what another runtime or processor may round differently.
MIN_CENTRED_COSINE = 0.9
SAME_OUTPUTS = 50
VISIBLE = 2.0  # grey levels of 0..255, mean absolute difference: more than a still camera's noise or a film's grain
HINT = "try another --backend, or copy or build the bundle again"


@dataclass(frozen=True, slots=True)
class Golden:
    """frames [G, H, W, 3] uint8 RGB, as preprocessed; embeddings [G, D] float32, the float model's."""

    frames: npt.NDArray[np.uint8]
    embeddings: Embeddings


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """Cosine of an engine's embeddings of the golden frames to the float model's.

    min_cosine, mean_cosine: lowest and mean. centred: mean after the mean float embedding is subtracted from both.
    """

    frames: int
    min_cosine: float
    mean_cosine: float
    centred: float


def load_golden(bundle: Bundle) -> Golden:
    """Raises DataError where golden.npz is not one, or does not fit the manifest."""
    path = bundle.file(bundle.manifest.golden)
    frames, embeddings = _arrays(path)
    wanted = (*bundle.manifest.preprocess.size, 3)
    if (
        frames.dtype != np.uint8
        or frames.shape[1:] != wanted
        or embeddings.dtype != np.float32
        or embeddings.shape != (len(frames), bundle.manifest.dim)
        or len(frames) < 2
        or not np.isfinite(embeddings).all()
    ):
        raise DataError(
            f"{path}: frames {frames.dtype} {list(frames.shape)} and embeddings {embeddings.dtype} "
            f"{list(embeddings.shape)} do not fit the manifest",
            "build the bundle again",
        )
    return Golden(frames, embeddings)


def check_golden(
    engine: Engine,
    bundle: Bundle,
    min_cosine: float = MIN_COSINE,
    min_centred: float = MIN_CENTRED_COSINE,
    golden: Golden | None = None,
) -> GoldenResult:
    """Run the golden frames, one inference each. golden: those of the bundle; None: read from it.

    Raises EngineError where the embeddings are constant, not finite or have drifted, DataError for golden.npz itself.
    """
    golden = golden or load_golden(bundle)
    rows = _embed(engine, golden.frames)
    if (rows == rows[0]).all():
        raise EngineError(f"self-test: {engine.runtime} returns the same embedding for every golden frame", HINT)
    reference = golden.embeddings.astype(np.float64)
    mean = reference.mean(axis=0)
    plain = _cosines(rows, reference)
    result = GoldenResult(
        frames=len(rows),
        min_cosine=float(plain.min()),
        mean_cosine=float(plain.mean()),
        centred=float(_cosines(rows - mean, reference - mean).mean()),
    )
    if result.min_cosine < min_cosine or result.centred < min_centred:
        raise EngineError(
            f"self-test: {engine.runtime} is too far from the float model on the golden frames: lowest cosine "
            f"{result.min_cosine:.4f} (limit {min_cosine}), mean-centred {result.centred:.4f} (limit {min_centred})",
            HINT,
        )
    return result


class ConstantGuard:
    """Watches the frame loop for an engine that returns one embedding whatever it is shown.

    A camera that really stands still is no fault: only inputs that visibly differ from the one before count.
    """

    def __init__(self, limit: int = SAME_OUTPUTS) -> None:
        self._limit = limit
        self._row: Embeddings | None = None
        self._batch: npt.NDArray[np.uint8] | None = None
        self._same = 0

    def check(self, batch: npt.NDArray[np.uint8], rows: Embeddings) -> None:
        """Raises EngineError when `limit` inputs in a row, each visibly different, gave numerically equal embeddings.

        batch [1, H, W, 3] uint8 and rows [1, D] may be reused by their owners afterwards. In the usual case, where the
        embedding has changed, this costs one comparison of D numbers.
        """
        if self._row is None or not np.array_equal(self._row, rows):
            self._row = rows.copy()
            self._batch = None
            self._same = 0
            return
        if self._batch is None:
            self._batch = batch.copy()
            return
        if np.abs(self._batch.astype(np.int16) - batch).mean() < VISIBLE:
            return
        np.copyto(self._batch, batch)
        self._same += 1
        if self._same >= self._limit:
            raise EngineError(f"the engine returned the same embedding for {self._same} different frames", HINT)


def _arrays(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    try:
        frames, embeddings = read_npz(path, "frames", "embeddings")
        return frames, embeddings
    except (OSError, ValueError) as error:
        raise DataError(f"{path} holds no golden frames: {error}", "copy or build the bundle again") from error


def _embed(engine: Engine, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """[G, D], whatever batch the engine was compiled for."""
    size = engine.input_shape[0]
    rows = []
    for start in range(0, len(frames), size):
        batch = frames[start : start + size]
        filled = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
        rows.append(engine.run(filled)[: len(batch)].astype(np.float64))
    return np.concatenate(rows)


def _cosines(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: npt.NDArray[np.float64] = (a * b).sum(axis=1) / np.maximum(lengths, 1e-12)
    return cosines
