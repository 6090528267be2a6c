"""NumPy archives that may be damaged: every way in which reading one fails is one of two exceptions."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# What numpy, zipfile, zlib and the parser of array headers let through, found by `make fuzz`. RuntimeError: a member is
# encrypted; NotImplementedError: its compression is unknown; OSError: it is said to begin before the file does.
DAMAGE: tuple[type[Exception], ...] = (
    *(EOFError, KeyError, MemoryError, NotImplementedError, OSError, RuntimeError, SyntaxError, TypeError),
    *(struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


def read_npz(path: Path, *names: str) -> tuple[npt.NDArray[Any], ...]:
    """The arrays of these names. Raises OSError where the file cannot be read, ValueError where it is not one."""
    with path.open("rb") as stream:
        try:
            with np.load(stream, allow_pickle=False) as stored:
                return tuple(stored[name] for name in names)
        except DAMAGE as error:
            raise ValueError(str(error) or type(error).__name__) from error
