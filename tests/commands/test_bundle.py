from __future__ import annotations

import json
from pathlib import Path

import pytest
from commandline import Captured, complaint

from edgeclip.cli import main
from edgeclip.errors import BAD_DATA

pytestmark = pytest.mark.usefixtures("bare_environment")


def test_inspect(tiny_path: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["inspect", str(tiny_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "tiny"
    assert main(["inspect", str(tiny_path)]) == 0
    assert "image.tflite" in capsys.readouterr().out
    assert main(["inspect", str(tiny_path / "image.tflite")]) == BAD_DATA
    assert f"give the bundle: {tiny_path}" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path)]) == BAD_DATA
    assert "not an edgeclip bundle" in complaint(capsys)
