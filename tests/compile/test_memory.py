from __future__ import annotations

from pathlib import Path

import pytest

from edgeclip.compile import memory
from edgeclip.compile.memory import LEAST_WORKSPACE, MB, MOST_WORKSPACE, available_bytes, plan_workspace
from edgeclip.errors import EngineError


def test_a_board_with_too_little_memory_is_told_before_anything_is_built() -> None:
    with pytest.raises(EngineError, match=r"takes about \d+ MB of memory, and 900 MB are available") as caught:
        plan_workspace(90 * MB, "tensorrt", 900 * MB)
    assert "swap" in caught.value.hint


def test_the_workspace_is_a_quarter_of_what_is_left() -> None:
    left = 3000 * MB - memory.RESIDENT_BYTES["tensorrt"] - memory.COPIES * 100 * MB
    assert plan_workspace(100 * MB, "tensorrt", 3000 * MB) == left // 4
    assert plan_workspace(100 * MB, "tensorrt", 64 << 30) == MOST_WORKSPACE
    tight = memory.RESIDENT_BYTES["tensorrt"] + memory.COPIES * 100 * MB + LEAST_WORKSPACE
    assert plan_workspace(100 * MB, "tensorrt", tight) == LEAST_WORKSPACE


def test_what_is_asked_for_is_kept_and_counted() -> None:
    assert plan_workspace(MB, "tensorrt-rtx", 8 << 30, 512 * MB) == 512 * MB
    with pytest.raises(EngineError, match="of memory"):
        plan_workspace(MB, "tensorrt-rtx", 1 << 30, 900 * MB)


def test_where_the_kernel_does_not_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "nothing")
    assert available_bytes() == 0
    assert plan_workspace(MB, "tensorrt", 0) == MOST_WORKSPACE


def test_the_kernel_says() -> None:
    assert available_bytes() > 0
