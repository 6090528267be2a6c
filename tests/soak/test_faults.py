"""Two faults of benchmarks/faults.py against the real run; `make faults` has them all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_a_cut_and_a_server_that_was_away_are_found_and_over_in_time(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "faults.py"), "--repetitions", "1", "--gone-s", "2"]
    done = subprocess.run(
        [*command, "--only", "drop", "--only", "server gone", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
    )
    result = json.loads((tmp_path / "faults.json").read_text())
    assert [row["fault"] for row in result["faults"]] == ["drop", "server gone for 2 s"], done.stderr[-2000:]
    assert result["exit_code"] == 0
    assert (done.returncode == 0) == result["passed"]
    for row in result["faults"]:
        assert row["detect_worst_s"] <= 5
        assert row["recover_worst_s"] <= 10  # the bound is 3 s at p95, on a machine that does nothing else
    assert "| drop | 1 | " in (tmp_path / "faults.md").read_text()
