"""Picture files become pixels: the one decoder, so that `run`, `eval`, calibration and training see the same ones."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgeclip.errors import DataError, reason_of
from edgeclip.types import Pixels

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm"}
)
MAX_PICTURE_BYTES = 64 << 20
PNG = b"\x89PNG\r\n\x1a\n"
BACKGROUND = 255  # what shows through transparency: white, as on paper and in browsers
# What fails is raised, with its remedy; OpenCV's own lines about it would tear the live table.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

MEND = "open it in a viewer and save it again as JPEG or PNG, or take it away"


def is_picture_name(name: str) -> bool:
    """By suffix. Hidden files are none: they are often what a file manager left behind."""
    return Path(name).suffix.lower() in SUFFIXES and not Path(name).name.startswith(".")


def name_of(path: Path) -> str:
    """Its path as text that can be written everywhere: a byte that is no UTF-8 is told as `\\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_utf8(path: Path) -> bool:
    """Whether its path is UTF-8, which OpenCV wants, and what is shown to people."""
    return name_of(path) == str(path)


def read_picture(path: Path) -> Pixels:
    """Decode a picture file as decode_picture() does. Raises DataError naming the file."""
    return decode_picture(picture_bytes(path, name_of(path)), name_of(path))


def picture_bytes(path: Path, where: str) -> bytes:
    """The content of a picture file, at most MAX_PICTURE_BYTES. Raises DataError naming `where`."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_PICTURE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in a path, from a CSV
        raise DataError(f"{where}: {reason_of(error)}", "check the path and its permissions") from error
    if len(data) > MAX_PICTURE_BYTES:
        raise DataError(f"{where} is larger than {MAX_PICTURE_BYTES >> 20} MiB", "make it smaller")
    return data


def decode_picture(data: bytes, where: str) -> Pixels:
    """Decode a picture file's bytes to [H, W, 3] uint8 BGR, upright.

    EXIF orientation is applied; grey and palette become colour; 16 bits become 8; transparency lies on white.
    Raises DataError for what is unreadable, truncated or floating point, naming `where`.
    """
    if data.startswith(b"\xff\xd8"):
        # libjpeg fills the missing part of a truncated file with grey and says nothing to its caller.
        if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
            raise DataError(f"{where} is a truncated JPEG", "copy it again, or take it away")
        return _decode(data, where, cv2.IMREAD_COLOR)
    if data.startswith(PNG) and not _is_whole_png(data):
        raise DataError(f"{where} is a truncated PNG", "copy it again, or take it away")
    raw = _decode(data, where, cv2.IMREAD_UNCHANGED)
    if raw.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{where} has {raw.dtype} pixels", "save it with 8 or 16 bits per channel")
    if _is_final(raw, data):
        return raw
    upright = _decode(data, where, cv2.IMREAD_COLOR)
    if raw.ndim == 2 or raw.shape[2] != 4:
        return upright
    if data[:4] in (b"II*\0", b"MM\0*"):  # OpenCV multiplies TIFF colours by alpha, or not, depending on the file
        raise DataError(f"{where} is a TIFF with transparency", "save it as PNG, or without the alpha channel")
    if raw.dtype == np.uint16:
        raw = (raw >> 8).astype(np.uint8)
    return _on_background(_turned_like(upright, raw), upright)


def _is_whole_png(data: bytes) -> bool:
    """Whether every chunk is there, up to the last. OpenCV takes a chunk's stated length on trust: 214 bytes that state
    a wrong one cost 2.2 GB and two seconds."""
    at = len(PNG)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IEND":
            return end <= len(data)
        at = end
    return False


def _is_final(raw: npt.NDArray[Any], data: bytes) -> bool:
    """Whether a second decoding would only repeat `raw`: plain colour, in a format that turns by EXIF alone, with none.

    Data sets are mostly such WebP and PNG files, and decoding is most of what reading them costs.
    """
    plain = raw.dtype == np.uint8 and raw.ndim == 3 and raw.shape[2] == 3
    known = data.startswith(PNG) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
    return plain and known and b"exif" not in data.lower()


def _decode(data: bytes, where: str, flags: int) -> npt.NDArray[Any]:
    picture: npt.NDArray[Any] | None = None
    if data:
        with suppress(cv2.error):  # some decoders raise where others return None
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if picture is None or not picture.size:
        raise DataError(f"{where} is not a readable picture", MEND)
    return picture


def _turned_like(upright: Pixels, raw: Pixels) -> Pixels:
    """The alpha of `raw` [h, w, 4], turned as `upright` [H, W, 3] was: OpenCV applies EXIF orientation to colours
    only and does not tell which, so it is found by comparing."""
    for stored in (raw, raw[:, ::-1]):
        for quarter_turns in range(4):
            turned = np.rot90(stored, quarter_turns)
            if np.array_equal(turned[..., :3], upright):
                return turned[..., 3]
    return raw[..., 3]


def _on_background(alpha: Pixels, colours: Pixels) -> Pixels:
    weight = alpha[..., np.newaxis].astype(np.uint16)
    blended = (colours * weight + BACKGROUND * (255 - weight) + 127) // 255
    return np.ascontiguousarray(blended, np.uint8)
