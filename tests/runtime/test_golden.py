from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tiny_bundle import DIM, SIZE, Weights, golden_frames, reference, write_bundle

from edgeclip.bundle import Bundle, open_bundle, write_digests
from edgeclip.errors import DataError, EngineError
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.golden import ConstantGuard, check_golden, load_golden
from edgeclip.types import Embeddings


class Recorded:
    """An engine that answers the golden frames with rows given to it, in order."""

    input_dtype = np.dtype(np.uint8)
    runtime = "recorded"

    def __init__(self, rows: npt.NDArray[Any], batch: int = 1) -> None:
        self.input_shape = (batch, SIZE, SIZE, 3)
        self._rows = np.asarray(rows, np.float32)
        self._next = 0

    def run(self, batch: npt.NDArray[Any]) -> Embeddings:
        assert batch.shape == self.input_shape
        rows = self._rows[self._next : self._next + len(batch)]
        self._next += len(batch)
        return np.concatenate([rows, np.repeat(rows[-1:], len(batch) - len(rows), axis=0)])

    def close(self) -> None:
        return


def truth() -> npt.NDArray[np.float32]:
    return reference(Weights(), golden_frames())


def unit(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_real_engine_passes(tiny: Bundle) -> None:
    engine = load_engine(tiny, "image", threads=1)
    result = check_golden(engine, tiny)
    engine.close()
    assert result.frames == len(golden_frames())
    assert result.min_cosine > 0.99999
    assert result.centred > 0.9999


def test_other_weights_than_the_golden_ones_are_refused(tmp_path: Path) -> None:
    weights = Weights()
    other = Weights(image=weights.image[::-1].copy())
    bundle = open_bundle(write_bundle(tmp_path / "other", other))
    engine = load_engine(bundle, "image", threads=1)
    with pytest.raises(EngineError, match="too far from the float model") as raised:
        check_golden(engine, bundle)
    assert raised.value.hint


def test_a_constant_engine_is_refused(tiny: Bundle) -> None:
    with pytest.raises(EngineError, match="same embedding for every golden frame"):
        check_golden(Recorded(np.repeat(truth()[:1], 6, axis=0)), tiny)


def test_a_collapsed_engine_is_refused_though_its_plain_cosine_is_high(tiny: Bundle) -> None:
    rows = truth()
    mean = unit(rows.mean(axis=0, keepdims=True))
    collapsed = unit(mean + 1e-3 * np.random.default_rng(0).standard_normal(rows.shape))
    with pytest.raises(EngineError, match="mean-centred"):
        check_golden(Recorded(collapsed), tiny, min_cosine=-1.0)


def test_limits_are_what_they_say(tiny: Bundle) -> None:
    noisy = unit(truth() + 0.004 * np.random.default_rng(0).standard_normal((6, DIM)))
    result = check_golden(Recorded(noisy), tiny)
    assert 0.99 < result.min_cosine < result.mean_cosine < 0.99999
    assert 0.9 < result.centred < result.min_cosine
    with pytest.raises(EngineError, match="lowest cosine"):
        check_golden(Recorded(noisy), tiny, min_cosine=result.min_cosine + 1e-6)
    with pytest.raises(EngineError, match="lowest cosine"):
        check_golden(Recorded(noisy), tiny, min_centred=result.centred + 1e-6)


def test_engines_compiled_for_several_frames_at_once(tiny: Bundle) -> None:
    assert check_golden(Recorded(truth(), batch=4), tiny).min_cosine > 0.99999


@pytest.mark.parametrize("damage", ["shape", "dtype", "nan", "one", "key", "text"])
def test_golden_frames_that_do_not_fit_are_bad_data(tmp_path: Path, damage: str) -> None:
    directory = write_bundle(tmp_path / "b")
    frames, embeddings = golden_frames(), truth()
    arrays = {"frames": frames, "embeddings": embeddings}
    changed: dict[str, dict[str, npt.NDArray[Any]]] = {
        "shape": {"frames": frames[:, :-1]},
        "dtype": {"frames": frames.astype(np.float32)},
        "nan": {"embeddings": np.full_like(embeddings, np.nan)},
        "one": {"frames": frames[:1], "embeddings": embeddings[:1]},
    }
    arrays.update(changed.get(damage, {}))
    if damage == "key":
        del arrays["frames"]
    if damage == "text":
        (directory / "golden.npz").write_text("not an archive")
    else:
        np.savez(directory / "golden.npz", **arrays)
    write_digests(directory)
    with pytest.raises(DataError, match="golden"):
        load_golden(open_bundle(directory))


def shown(level: int) -> npt.NDArray[np.uint8]:
    return np.full((1, 8, 8, 3), level, np.uint8)


ROW = np.ones((1, 4), np.float32)


def test_guard_stops_a_constant_output() -> None:
    guard = ConstantGuard(limit=10)
    for number in range(11):  # the first two are what the rest is compared with
        guard.check(shown(number * 5), ROW)
    with pytest.raises(EngineError, match="same embedding for 10 different frames"):
        guard.check(shown(250), ROW)


def test_guard_lets_a_still_camera_be() -> None:
    guard = ConstantGuard(limit=10)
    for number in range(200):
        guard.check(shown(100 + number % 2), ROW)  # one grey level of noise


def test_guard_starts_anew_when_the_output_changes() -> None:
    guard = ConstantGuard(limit=10)
    for number in range(200):
        guard.check(shown(number * 5 % 256), ROW + (number // 9))


def test_guard_copies_what_it_keeps() -> None:
    """Engine and preprocessor reuse their buffers: comparing those with themselves would find everything the same."""
    guard, batch, row = ConstantGuard(limit=5), shown(0), ROW.copy()
    for number in range(50):
        batch[...] = number * 5
        row[...] = number
        guard.check(batch, row)
