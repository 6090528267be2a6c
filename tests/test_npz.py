"""Whatever is wrong with an archive is a ValueError."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeclip.npz import npz_bytes, read_npz


def packed(header: bytes) -> bytes:
    """An archive of one array file that begins as every one does and goes on with `header`."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("frames.npy", b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header)
    return out.getvalue()


def test_arrays_come_in_the_order_asked_for(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "two.npz", a=np.arange(3), b=np.ones(2))
    b, a = read_npz(tmp_path / "two.npz", "b", "a")
    assert a.tolist() == [0, 1, 2]
    assert b.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "header",
    [b"{'descr': ('|u1',\n", b"{'descr': 'O', 'fortran_order': False, 'shape': (1,)}\n", b"(" * 9000, b"\n", b""],
    ids=["open-bracket", "pickle", "deep", "blank", "empty"],
)
def test_a_bad_array_header_is_a_value_error(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(packed(header))
    with pytest.raises(ValueError, match=r"."):
        read_npz(path, "frames")


def test_a_damaged_archive_is_a_value_error(tmp_path: Path) -> None:
    path, chance = tmp_path / "damaged.npz", random.Random(0)
    np.savez_compressed(path, frames=np.random.default_rng(0).integers(0, 9, 4000))
    good, refused = path.read_bytes(), 0
    for _ in range(200):
        at = chance.randrange(len(good))
        path.write_bytes(good[:at] + chance.randbytes(3) + good[at + 3 :])
        try:
            read_npz(path, "frames")
        except ValueError:
            refused += 1
    assert refused > 150


def test_a_missing_name_and_a_missing_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", a=np.arange(3))
    with pytest.raises(ValueError, match="b"):
        read_npz(tmp_path / "one.npz", "b")
    with pytest.raises(OSError, match=r"none\.npz"):
        read_npz(tmp_path / "none.npz", "a")


def test_an_archive_that_says_more_than_is_allowed_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "zeros.npz").write_bytes(npz_bytes(a=np.zeros(1 << 20, np.uint8)))
    assert (tmp_path / "zeros.npz").stat().st_size < 5000
    assert len(read_npz(tmp_path / "zeros.npz", "a", most_bytes=(1 << 20) + 200)[0]) == 1 << 20
    with pytest.raises(ValueError, match="at most 1000"):
        read_npz(tmp_path / "zeros.npz", "a", most_bytes=1000)


def test_the_same_arrays_are_the_same_bytes(tmp_path: Path) -> None:
    made = npz_bytes(b=np.arange(5), a=np.ones((2, 3), np.float16))
    assert made == npz_bytes(b=np.arange(5), a=np.ones((2, 3), np.float16))
    (tmp_path / "made.npz").write_bytes(made)
    a, b = read_npz(tmp_path / "made.npz", "a", "b")
    assert (a.dtype, a.shape, b.tolist()) == (np.float16, (2, 3), [0, 1, 2, 3, 4])
