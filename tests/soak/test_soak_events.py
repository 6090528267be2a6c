"""Twenty cycles of benchmarks/soak_events.py: kill -9, broker restarts, a webhook that fails, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from mosquitto import binary

ROOT = Path(__file__).parent.parent.parent
CYCLES = 20


def test_no_acknowledged_event_is_lost(tmp_path: Path) -> None:
    binary()
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "soak_events.py"), "--cycles", str(CYCLES), "--keep", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-2])
    assert done.stdout.splitlines()[-1] == "lost: 0"
    assert result["kills"] == CYCLES
    assert result["broker_restarts"] == CYCLES // 5
    assert result["acknowledged"] > 2 * CYCLES
