"""Text in pictures, drawn with OpenCV alone: devices have no Pillow.

OpenCV 5 has a face for Latin, Greek, Cyrillic, Chinese, Japanese, Korean, Hebrew and Arabic; OpenCV 4 draws little more
than ASCII. What is lacking is taken from a font of the system, where there is OpenCV 5 and fontconfig names one. Else
an emoji is told by its name, "(dog face)", an accented letter becomes the plain one, and any other letter "?".

Letters are put one beside the other: those of Arabic are not joined, those of Indic scripts not composed.
"""

from __future__ import annotations

import functools
import itertools
import re
import subprocess
import unicodedata
from typing import Any

import cv2
import numpy as np

from edgeclip.types import Pixels

FONT = cv2.FONT_HERSHEY_SIMPLEX  # OpenCV 5 draws it with its TrueType face
SIZE_AT_1 = 27.0  # of a TrueType face, in pixels, that is as large as FONT at scale 1
WEIGHT = 400  # regular
FONTS_WITHIN_S = 1.0  # that fontconfig may take: a frame waits
FONTS_TRIED = 5  # of those that say they have a letter: colour fonts hold pictures, which OpenCV cannot draw
UNSEEN = re.compile("[\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]")  # variation selectors, skin tones
FLAGS = ord("\U0001f1e6")  # "regional indicator symbol letter a"; two make a flag

Colour = tuple[int, int, int]  # BGR
Face = Any  # cv2.FontFace, which OpenCV 4 has not


def write(picture: Pixels, text: str, left: int, baseline: int, size: float, colour: Colour) -> None:
    """Into `picture`, [H, W, 3] uint8 BGR. size: about a line's height, in pixels."""
    drawn, face = _drawn(text)
    if face is None:
        cv2.putText(picture, drawn, (left, baseline), FONT, size / 24.0, colour, _thickness(size), cv2.LINE_AA)
    else:
        cv2.putText(picture, drawn, (left, baseline), colour, face, _face_size(size), WEIGHT)


def text_width(text: str, size: float) -> int:
    """In pixels, as write() draws it."""
    drawn, face = _drawn(text)
    if face is None:
        return int(cv2.getTextSize(drawn, FONT, size / 24.0, _thickness(size))[0][0])
    x, _, width, _ = cv2.getTextSize((0, 0), drawn, (0, 0), face, _face_size(size), WEIGHT)
    return int(x + width)


def fitted(text: str, size: float, width: float) -> str:
    """The text, or as much of it as fits with an ellipsis."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "...", size) > width:
        text = text[:-1]
    return text + "..."


def fitted_end(text: str, size: float, width: float) -> str:
    """As fitted(), of its end: what tells one path from another stands there."""
    if text_width(text, size) <= width:
        return text
    while text and text_width("..." + text, size) > width:
        text = text[1:]
    return "..." + text


def _thickness(size: float) -> int:
    return max(1, round(size / 20))


def _face_size(size: float) -> int:
    return max(1, round(SIZE_AT_1 * size / 24.0))


def _drawn(text: str) -> tuple[str, Face | None]:
    """What stands for the text, and the face to draw it with; None is FONT."""
    return (text, None) if text.isascii() else _worked_out(text)


@functools.lru_cache(maxsize=1024)
def _worked_out(text: str) -> tuple[str, Face | None]:
    """As _drawn(). One face for all of a text: a second script that FONT lacks is told in plain letters."""
    text = text.encode("utf-8", "replace").decode()  # of a file name that is not UTF-8
    text = "".join(c for c in UNSEEN.sub("", unicodedata.normalize("NFC", text)) if unicodedata.category(c) != "Cf")
    missing = {character for character in text if not character.isascii() and not _has(None, character)}
    face = _face_with(frozenset(missing)) if missing else None
    if face is not None:
        missing = {character for character in missing if not _has(face, character)}
    return _from_the_left("".join(_spelled(c) if c in missing else c for c in text)), face


def _spelled(character: str) -> str:
    """One that no face has, in ASCII."""
    if 0 <= ord(character) - FLAGS < 26:
        return chr(ord("A") + ord(character) - FLAGS)
    category = unicodedata.category(character)
    if category.startswith("M"):  # of the letter before, which stands without it
        return ""
    plain = "".join(part for part in unicodedata.normalize("NFKD", character).replace("\u2044", "/") if part.isascii())
    name = unicodedata.name(character, "").lower()
    return plain or (f"({name})" if name and category.startswith("S") else "?")


def _from_the_left(text: str) -> str:
    """With what is written from the right turned round: OpenCV draws everything from the left."""
    right = {"R": "R", "AL": "R", "L": "L", "EN": "L", "AN": "L"}
    ways = "".join(right.get(unicodedata.bidirectional(character), "-") for character in text)
    for run in re.finditer("R(?:[R-]*R)?", ways):
        text = text[: run.start()] + text[run.start() : run.end()][::-1] + text[run.end() :]
    return text


@functools.lru_cache(maxsize=4096)
def _has(face: Face | None, character: str) -> bool:
    """Whether it is drawn. OpenCV puts "?" for what a face lacks, OpenCV 4 one for each byte, and nothing where a font
    holds colour pictures."""
    shape = _shape(face, character)
    if not shape.any():
        return character.isspace()
    return not any(np.array_equal(shape, _shape(face, "?" * count)) for count in range(1, 5))


def _shape(face: Face | None, text: str) -> Pixels:
    """The text, [32, 96, 3] uint8."""
    picture = np.zeros((32, 96, 3), np.uint8)
    if face is None:
        cv2.putText(picture, text, (4, 24), FONT, 0.75, (255, 255, 255), 1, cv2.LINE_AA)
    else:
        cv2.putText(picture, text, (4, 24), (255, 255, 255), face, 20, WEIGHT)
    return picture


@functools.cache
def _face_with(characters: frozenset[str]) -> Face | None:
    """The system's face with most of these letters."""
    if not hasattr(cv2, "FontFace"):
        return None
    codes = [ord(character) for character in characters]
    counted = [(sum(code in have for code in codes), path) for path, have in _system_fonts()]
    likely = sorted((one for one in counted if one[0]), key=lambda one: -one[0])  # stable: plainest first
    for _, path in likely[:FONTS_TRIED]:
        face = _face(path)
        if face is not None and any(_has(face, character) for character in characters):
            return face
    return None


@functools.cache
def _face(path: str) -> Face | None:
    """None for a file that OpenCV cannot read."""
    try:
        return cv2.FontFace(path)
    except cv2.error:
        return None


@functools.cache
def _system_fonts() -> list[tuple[str, frozenset[int]]]:
    """(file, codes of its letters), plain upright sans serif first; none where there is no fontconfig. Asked once."""
    command = ["fc-list", "--format", "%{slant} %{weight} %{file}\t%{charset}\n"]
    try:
        listed = subprocess.run(command, capture_output=True, timeout=FONTS_WITHIN_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    fonts = []
    for line in listed.decode("utf-8", "replace").splitlines():
        facts, _, charset = line.partition("\t")
        found = re.fullmatch(r"(\d+) (\d+) (.+)", facts)
        if found is not None:
            slant, weight, path = int(found[1]), int(found[2]), found[3]
            unusual = (slant, abs(weight - 80), "mono" in path.lower(), "serif" in path.lower(), path)  # 80: regular
            fonts.append((unusual, path, frozenset(itertools.chain.from_iterable(map(_codes, charset.split())))))
    return [(path, have) for _, path, have in sorted(fonts, key=lambda font: font[0])]


def _codes(span: str) -> range:
    """`a0-17f` or `192`, hexadecimal."""
    first, _, last = span.partition("-")
    return range(int(first, 16), int(last or first, 16) + 1)
