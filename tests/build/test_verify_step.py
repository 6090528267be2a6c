"""What is measured, and what is left out with a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeclip.build.verify import on_openvino
from edgeclip.errors import EngineError
from edgeclip.progress import Silent

pytest.importorskip("openvino", reason="pip install 'edgeclip[openvino]'")


class Notes(Silent):
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_graph_that_openvino_cannot_run_does_not_stop_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeclip.runtime.backends import openvino

    def refuses(path: Path, threads: int) -> None:
        raise EngineError("it cannot be loaded: no such operator", "update openvino")

    monkeypatch.setattr(openvino, "OpenVinoEngine", refuses)
    progress = Notes()
    assert on_openvino(tmp_path / "image.onnx", progress) == {}
    assert progress.notes == [
        "OpenVINO cannot run image.onnx, and is not measured: it cannot be loaded: no such operator"
    ]
