from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from commandline import Captured

from edgeclip.cli import main
from edgeclip.errors import UNAVAILABLE

pytestmark = pytest.mark.usefixtures("bare_environment")


def test_doctor(tiny_path: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["doctor", "--bundle", str(tiny_path), "--json"]) == 0
    assert {"ok"} <= {check["status"] for check in json.loads(capsys.readouterr().out)} <= {"ok", "warn"}
    assert main(["doctor", "--bundle", str(tmp_path / "none")]) == UNAVAILABLE
    assert re.search(r"^fail +bundle: .*none", capsys.readouterr().out, re.MULTILINE)
