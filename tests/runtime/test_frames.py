from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tiny_bundle import DIM, write_bundle

from edgeclip.bundle import FRAMES, MOST_FRAMES, Bundle, open_bundle, write_digests
from edgeclip.errors import DataError
from edgeclip.npz import npz_bytes
from edgeclip.runtime.frames import frames_file, load_frames, pictures
from edgeclip.runtime.golden import load_golden


def rows(count: int, dim: int = DIM) -> npt.NDArray[np.float32]:
    made = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def carrying(directory: Path, data: bytes) -> Bundle:
    write_bundle(directory)
    (directory / FRAMES).write_bytes(data)
    manifest = directory / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "frames": FRAMES}))
    write_digests(directory)
    return open_bundle(directory)


def test_what_was_written_is_read_as_unit_vectors(tmp_path: Path) -> None:
    bundle = carrying(tmp_path / "b", frames_file(3 * rows(100)))
    found = load_frames(bundle)
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, rows(100), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(pictures(bundle), found)


def test_a_bundle_without_frames_has_its_golden_ones(tiny: Bundle) -> None:
    assert load_frames(tiny) is None
    np.testing.assert_array_equal(pictures(tiny), load_golden(tiny).embeddings)


def test_frames_of_the_largest_number_are_within_the_limit(tmp_path: Path) -> None:
    found = load_frames(carrying(tmp_path / "b", frames_file(rows(MOST_FRAMES))))
    assert found is not None
    assert len(found) == MOST_FRAMES


def spoilt(value: float) -> npt.NDArray[np.float16]:
    made = rows(20).astype(np.float16)
    made[3, 2] = value
    return made


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (rows(20), "float32"),
        (rows(20, DIM + 1).astype(np.float16), "do not fit"),
        (rows(1).astype(np.float16)[0], "do not fit"),
        (rows(7).astype(np.float16), "7 frames"),
        (rows(MOST_FRAMES + 1).astype(np.float16), f"{MOST_FRAMES + 1} frames"),
        (np.zeros((MOST_FRAMES * 4, DIM), np.float16), "at most"),
        (spoilt(np.nan), "unit vectors"),
        (spoilt(np.inf), "unit vectors"),
        (spoilt(2.0), "unit vectors"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_file_named(array: npt.NDArray[Any], why: str, tmp_path: Path) -> None:
    bundle = carrying(tmp_path / "b", npz_bytes(embeddings=array))
    with pytest.raises(DataError, match=why) as caught:
        load_frames(bundle)
    assert FRAMES in caught.value.message
    assert "build" in caught.value.hint


@pytest.mark.parametrize("data", [b"", b"PK", b"\x93NUMPY", npz_bytes(other=np.ones(3))])
def test_what_is_no_such_archive_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no embeddings"):
        load_frames(carrying(tmp_path / "b", data))


def test_a_manifest_that_names_no_file_there_is_refused(tmp_path: Path) -> None:
    bundle = carrying(tmp_path / "b", frames_file(rows(10)))
    bundle.file(FRAMES).unlink()
    write_digests(bundle.path)
    with pytest.raises(DataError, match=r"names frames\.npz, which is missing"):
        open_bundle(bundle.path)
