"""Text in pictures, in every script: as pixels, for that is what a person sees."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest

from edgeclip import lettering
from edgeclip.lettering import fitted, fitted_end, text_width, write
from edgeclip.types import Pixels

DEJAVU = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
needs_truetype = pytest.mark.skipif(not hasattr(cv2, "FontFace"), reason="OpenCV 4 draws ASCII alone")


def picture(text: str) -> Pixels:
    pixels = np.zeros((48, 640, 3), np.uint8)
    write(pixels, text, 8, 32, 24.0, (255, 255, 255))
    return pixels


def alike(one: str, other: str) -> bool:
    return bool((picture(one) == picture(other)).all())


def fontconfig(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A system whose fc-list does this."""
    program = folder / "fc-list"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    _forget()


def _forget() -> None:
    for remembered in (lettering._worked_out, lettering._face_with, lettering._system_fonts):
        remembered.cache_clear()


@pytest.fixture(autouse=True)
def no_fonts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fontconfig(tmp_path, monkeypatch, "exit 1")
    yield
    _forget()


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("🐕", "(dog)"),
        ("a 👩‍👧 on a 🚲", "a (woman)(girl) on a (bicycle)"),  # joined by U+200D
        ("👍🏽 \U0001f1e9\U0001f1ea 1\ufe0f\u20e3", "(thumbs up sign) DE 1"),  # skin tone, flag, keycap
        ("e\u0301t\u00e9", "\u00e9t\u00e9"),  # decomposed, as macOS writes file names
        ("हिन्दी", "???"),  # three letters, and signs of theirs
        ("caf\udce9.jpg", "caf?.jpg"),  # of a file name that is not UTF-8
    ],
)
def test_what_no_font_has_is_told_in_plain_letters(text: str, plain: str) -> None:
    assert alike(text, plain)


@needs_truetype
@pytest.mark.parametrize("text", ["Käse", "кот", "γάτα", "猫", "고양이", "חתול", "قطة"])
def test_what_opencv_has_is_drawn(text: str) -> None:
    assert not alike(text, "?" * len(text))


@needs_truetype
def test_what_is_written_from_the_right_is_drawn_so() -> None:
    width = text_width("ב", 24.0)
    assert (picture("כלב")[:, : 8 + width] == picture("ב")[:, : 8 + width]).all()  # the last letter stands at the left
    assert alike("dog כלב", "dog \u200fכלב")


@needs_truetype
def test_a_font_of_the_system_draws_what_opencv_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = picture("☃ dog")
    fontconfig(tmp_path, monkeypatch, f"printf '0 80 /no/such/font.ttf\\t2600-26ff\\n0 80 {DEJAVU}\\t20-7e 2603\\n'")
    assert (picture("☃ dog") != without).any()
    assert not alike("☃", "?")
    assert text_width("☃", 24.0) < text_width("(snowman)", 24.0)
    assert alike("🐕 dog", "(dog) dog")  # which DejaVu has not
    right = np.flatnonzero(picture("☃ dog").any(axis=(0, 2))).max()
    assert right == pytest.approx(8 + text_width("☃ dog", 24.0), abs=4)


def test_a_fontconfig_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fontconfig(tmp_path, monkeypatch, "exec sleep 60")
    begin_s = time.monotonic()
    picture("🐕 हिन्दी")
    picture("🐈")
    assert time.monotonic() - begin_s < 10.0


def test_text_that_is_too_long_is_cut() -> None:
    assert text_width(fitted("a very long name of a camera", 20, 120), 20) <= 120
    assert text_width(fitted("🐕" * 40, 20, 120), 20) <= 120
    assert fitted("short", 20, 500) == "short"


def test_of_a_long_path_the_end_is_shown_for_there_it_differs() -> None:
    shown = fitted_end("/a/long/way/down/to/the/pictures/of/monday/cat.jpg", 12, 100)
    assert shown.startswith("...")
    assert shown.endswith("cat.jpg")
    assert fitted_end("cat.jpg", 12, 200) == "cat.jpg"
