"""The bundle we ship: it opens, its engines agree with its float model, and it is right about what the demo shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeclip.bundle import open_bundle
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.frames import load_frames
from edgeclip.runtime.golden import check_golden
from edgeclip.runtime.labelbank import EVERYDAY, load_bank
from edgeclip.runtime.labels import parse_labels
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.runtime.similarity import score, similarity
from edgeclip.runtime.sources.demo import FRAMES_PER_PHOTOGRAPH, SHOWN, Demo

ROUNDS = 3  # the camera moves otherwise each time
STEP = 15  # frames between two that are looked at


@pytest.mark.parametrize("backend", ["litert", "onnxruntime"])
def test_engines_agree_with_the_float_model(backend: str) -> None:
    bundle = open_bundle()
    engine = load_engine(bundle, "image", backend=backend, threads=1)
    check_golden(engine, bundle)


def test_it_is_right_about_what_the_demo_shows(tmp_path: Path) -> None:
    bundle = open_bundle()
    scoring = bundle.manifest.scoring
    bank = load_bank(bundle, parse_labels(EVERYDAY), cache_dir=tmp_path)
    engine, preprocess = load_engine(bundle, "image", threads=1), Preprocessor(bundle.manifest.preprocess)
    demo = Demo()
    demo.open()
    for place, photograph in enumerate(SHOWN):
        shots = [(place + round_ * len(SHOWN)) * FRAMES_PER_PHOTOGRAPH for round_ in range(ROUNDS)]
        frames = [shot + step for shot in shots for step in range(0, FRAMES_PER_PHOTOGRAPH, STEP)]
        said = [
            bank.names[
                int(np.argmax(score(similarity(engine.run(preprocess(demo.frame(index))), bank.embeddings), scoring)))
            ]
            for index in frames
        ]
        wrong = [name for name in said if name != photograph.name]
        assert len(wrong) <= len(said) // 10, f"{photograph.name}: {wrong}"


def test_what_ships_is_small_and_carries_frames() -> None:
    bundle = open_bundle()
    frames = load_frames(bundle)
    assert frames is not None
    assert len(frames) == 126
    assert sum(path.stat().st_size for path in bundle.path.iterdir()) < 12e6
    assert all((bundle.path / name).is_file() for name in ("README.md", "report.json", "report.md"))
