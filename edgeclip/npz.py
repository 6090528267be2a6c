"""NumPy archives: read although they may be damaged (every way to fail is one of two exceptions), and written."""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

EPOCH = (1980, 1, 1, 0, 0, 0)
# What numpy, zipfile, zlib and the parser of array headers let through, found by `make fuzz`. RuntimeError: a member is
# encrypted; NotImplementedError: its compression is unknown; OSError: it is said to begin before the file does.
DAMAGE: tuple[type[Exception], ...] = (
    *(EOFError, KeyError, MemoryError, NotImplementedError, OSError, RuntimeError, SyntaxError, TypeError),
    *(struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


def read_npz(path: Path, *names: str, most_bytes: int | None = None) -> tuple[npt.NDArray[Any], ...]:
    """The arrays of these names. Raises OSError where the file cannot be read, ValueError where it is not one.

    most_bytes: that all of its arrays may take, unpacked; none is read of an archive that says more.
    """
    with path.open("rb") as stream:
        try:
            with np.load(stream, allow_pickle=False) as stored:
                size = sum(member.file_size for member in stored.zip.infolist())
                if most_bytes is not None and size > most_bytes:
                    raise ValueError(f"{size} bytes unpacked, and at most {most_bytes} are read")
                return tuple(stored[name] for name in names)
        except DAMAGE as error:
            raise ValueError(str(error) or type(error).__name__) from error


def npz_bytes(**arrays: npt.NDArray[Any]) -> bytes:
    """A compressed archive of these arrays: the same bytes every time (np.savez writes the time of day into it)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, member.getvalue())
    return stream.getvalue()
