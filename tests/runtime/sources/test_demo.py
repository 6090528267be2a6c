from __future__ import annotations

import importlib.util
import subprocess
import sys

import cv2
import numpy as np
import pytest

from edgeclip.errors import SourceError
from edgeclip.runtime.sources.demo import FRAMES_PER_PHOTOGRAPH, PHOTOGRAPHS, SHOWN, Demo, journey, photographs


def test_a_frame_depends_on_its_index_alone() -> None:
    one, other = Demo(), Demo()
    one.open()
    other.open()
    for _ in range(3):
        one.read()
    assert np.array_equal(one.read(), other.frame(3))
    assert other.frame(3).shape == (480, 640, 3)
    assert other.frame(3).dtype == np.uint8


def test_it_moves_smoothly_and_comes_round_again() -> None:
    demo = Demo()
    demo.open()
    middle = FRAMES_PER_PHOTOGRAPH // 2
    change = cv2.absdiff(demo.frame(middle), demo.frame(middle + 1)).mean()
    assert 0.05 < change < 25
    far = FRAMES_PER_PHOTOGRAPH * len(SHOWN) * 1000 + middle
    same_photograph = np.corrcoef(demo.frame(far).ravel(), demo.frame(middle).ravel())[0, 1]
    other_photograph = np.corrcoef(demo.frame(far).ravel(), demo.frame(middle + FRAMES_PER_PHOTOGRAPH).ravel())[0, 1]
    assert same_photograph > 0.5 > other_photograph


def test_the_camera_stays_inside_the_photograph_and_shows_most_of_it() -> None:
    for shot in range(500):
        photograph = PHOTOGRAPHS[shot % len(PHOTOGRAPHS)]
        for width, height in ((640, 480), (512, 512), (741, 500), (451, 300)):
            widest = min(width, height * 4 / 3)
            for view in journey(shot, photograph, width, height):
                assert 0.75 * widest <= view.width <= widest
                assert view.x - view.width / 2 >= -1e-9
                assert view.x + view.width / 2 <= width + 1e-9
                assert view.y - view.width * 3 / 8 >= -1e-9
                assert view.y + view.width * 3 / 8 <= height + 1e-9


def test_every_photograph_is_there_and_named() -> None:
    found = photographs()
    assert [name for name, _ in found] == [photograph.name for photograph in PHOTOGRAPHS]
    assert all(cv2.imread(str(path)) is not None for _, path in found)


def test_scikit_image_is_not_imported_and_its_absence_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys; from edgeclip.runtime.sources.demo import Demo; Demo().open(); assert 'skimage' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceError) as caught:
        Demo()
    assert caught.value.hint == "pip install 'edgeclip[demo]'"
