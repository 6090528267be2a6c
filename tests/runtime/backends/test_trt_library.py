from __future__ import annotations

import sys

import pytest

from edgeclip.errors import EngineError, UsageError
from edgeclip.runtime.backends.trt_library import KEPT_LINES, Library, LogLines, load_library


def test_a_library_that_is_not_there_is_told_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"tensorrt cannot be imported here: .*tensorrt") as caught:
        load_library("tensorrt")
    assert "apt install python3-libnvinfer" in caught.value.hint
    for name in ("tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match="tensorrt-rtx cannot be imported here") as caught:
        load_library("tensorrt-rtx")
    assert "pip install 'edgeclip[tensorrt-rtx]'" in caught.value.hint
    with pytest.raises(UsageError, match="tensorrt-lite is no TensorRT"):
        load_library("tensorrt-lite")


def test_releases_compare_as_numbers() -> None:
    assert Library("tensorrt", None, "10.13.0").release > Library("tensorrt", None, "10.3.0").release > (8, 6)


def test_the_log_keeps_what_says_why() -> None:
    lines = LogLines()
    assert lines.why() == "it gave no reason"
    for number in range(2 * KEPT_LINES):
        lines.add("VERBOSE", "chatter")
        lines.add("ERROR", f"error {number % 5}\n of many")
    lines.add("WARNING", "slow")
    lines.add("VERBOSE", "Layers:\nName: a, LayerType: gemm")
    assert len(lines.errors) == KEPT_LINES
    assert lines.warnings == ["slow"]
    assert lines.why() == "error 2 of many; error 3 of many; error 4 of many"
    assert "Name: a" in lines.table
