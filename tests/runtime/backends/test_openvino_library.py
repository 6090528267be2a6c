from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino", reason="pip install 'edgeclip[openvino]'")


def test_openvino_reports_nothing_and_leaves_nothing_in_the_home_directory(tmp_path: Path) -> None:
    code = """
import socket, sys
def refuse(*_):
    raise SystemExit("something calls out")
socket.getaddrinfo = refuse
import edgeclip.runtime.backends.openvino as backend
assert backend.openvino.Core().available_devices
assert not any(name.startswith("openvino_telemetry.") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "HOME": str(tmp_path)}, check=True, timeout=120)
    assert list(tmp_path.iterdir()) == []
