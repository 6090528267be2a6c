"""One thread for torch while these tests run: they are small, and one thread makes a run repeat bit for bit. And
curves, where a test asks for it, that are not drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeclip.atomic import atomic_write
from edgeclip.train import run


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def blank_curves(history: list[dict[str, Any]], path: Path) -> None:
    """Drawing takes longer than an epoch of colours; test_curves.py and one run of test_run.py do draw."""
    with atomic_write(path) as stream:
        stream.write(b"curves")


@pytest.fixture
def quick_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "draw_curves", blank_curves)
