"""What several build tests share: a small checkpoint, its recipe and its calibration set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small import facts, random_checkpoint, textured, write_pictures, write_recipe

from edgeclip.train.towers import ConvTower


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    return textured(90)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, pictures: list[np.ndarray]) -> Path:
    """A recipe with a small conv checkpoint beside it, and a calibration set of 90 pictures."""
    folder = tmp_path_factory.mktemp("recipe")
    tower = ConvTower(stem=8, widths=(16, 24), depths=(1, 1), neck=32)
    random_checkpoint(folder / "small.safetensors", facts(tower, 32))
    write_pictures(folder / "frames", pictures)
    write_recipe(folder, calibration="frames")
    return folder
