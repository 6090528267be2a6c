from __future__ import annotations

import importlib.util
import subprocess
import sys

import cv2
import numpy as np
import pytest

from edgeclip.errors import SourceError
from edgeclip.runtime.sources.demo import FRAMES_PER_PHOTOGRAPH, PHOTOGRAPHS, Demo, photographs


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
    far = FRAMES_PER_PHOTOGRAPH * len(PHOTOGRAPHS) * 1000 + middle
    same_photograph = np.corrcoef(demo.frame(far).ravel(), demo.frame(middle).ravel())[0, 1]
    other_photograph = np.corrcoef(demo.frame(far).ravel(), demo.frame(middle + FRAMES_PER_PHOTOGRAPH).ravel())[0, 1]
    assert same_photograph > 0.5 > other_photograph


def test_most_of_a_photograph_stays_visible() -> None:
    demo = Demo()
    demo.open()
    for shot, (_, path) in enumerate(photographs()):
        picture = cv2.imread(str(path))
        for index in (shot * FRAMES_PER_PHOTOGRAPH, (shot + 1) * FRAMES_PER_PHOTOGRAPH - 1):
            frame = demo.frame(index)
            scale = max(640 / picture.shape[1], 480 / picture.shape[0])  # of the widest view
            seen = cv2.resize(frame, None, fx=0.7 / scale, fy=0.7 / scale, interpolation=cv2.INTER_AREA)
            assert frame.std() > 5
            assert seen.shape[0] <= picture.shape[0]


def test_scikit_image_is_not_imported_and_its_absence_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys; from edgeclip.runtime.sources.demo import Demo; Demo().open(); assert 'skimage' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceError) as caught:
        Demo()
    assert caught.value.hint == "pip install 'edgeclip[demo]'"
