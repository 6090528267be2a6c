from __future__ import annotations

from pathlib import Path

import pytest
from commandline import Captured, complaint

from edgeclip.cli import main
from edgeclip.errors import CONFIGURATION

pytestmark = pytest.mark.usefixtures("bare_environment")


def test_train_and_build_say_what_is_wrong_with_their_file(tmp_path: Path, capsys: Captured) -> None:
    for module in ("torch", "onnx"):
        pytest.importorskip(module)
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\nchekpoint: y\n")
    for command in ("build", "train"):
        assert main([command, str(path)]) == CONFIGURATION
        assert f"{path}:" in complaint(capsys)
