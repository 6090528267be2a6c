"""The table of a campaign, and exit code 1 where anything was found."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from fuzz.campaign import SHARES, Campaign, Outcome, has_atheris, shared

ROW = "{:<11} {:<11} {:>9} {:>9} {:>9} {:>8} {:>6} {:>6} {:>9} {:>7}"


def row(outcome: Outcome) -> str:
    rate = f"{outcome.executed / outcome.seconds:.0f}/s" if outcome.seconds else ""
    numbers = (outcome.executed, outcome.refused, outcome.accepted, outcome.crashes, outcome.hangs, outcome.stray)
    return ROW.format(outcome.target, outcome.generator, *numbers, rate, f"{outcome.peak_mb} MB")


def scratch() -> str | None:
    """Memory where there is such a file system: every input is written to a file."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=(sys.modules["fuzz"].__doc__ or "").partition("\n")[0])
    parser.add_argument("count", type=int, nargs="?", default=100_000, help="inputs in total (default: 100000)")
    parser.add_argument("--target", action="append", choices=SHARES, help="these alone; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="the same seed, the same inputs (default: 0)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--limit-s", type=float, default=20.0, help="of processor time; what needs more is a hang (default: 20)"
    )
    parser.add_argument("--out", type=Path, default=Path("build-work/fuzz"), help="where inputs that did harm are kept")
    parser.add_argument("--no-atheris", action="store_true", help="without it, even where it is installed")
    arguments = parser.parse_args()
    atheris = has_atheris() and not arguments.no_atheris
    if not atheris and not arguments.no_atheris:
        print("atheris is not installed (pip install 'edgeclip[fuzz]'): mutation takes its share")
    jobs = shared(arguments.count, arguments.target or list(SHARES), atheris)
    print(
        ROW.format("target", "generator", "inputs", "refused", "accepted", "crashes", "hangs", "stray", "rate", "peak")
    )
    begun_s = time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="edgeclip-fuzz-", dir=scratch()) as work:
        campaign = Campaign(
            Path(work),
            arguments.out.absolute(),
            arguments.seed,
            arguments.limit_s,
            lambda done: print(row(done), flush=True),
        )
        outcomes = campaign.run(jobs, arguments.processes)
    inputs, crashes = sum(one.executed for one in outcomes), sum(one.crashes for one in outcomes)
    hangs, stray = sum(one.hangs for one in outcomes), sum(one.stray for one in outcomes)
    took_s = time.monotonic() - begun_s
    print(f"{inputs} inputs in {took_s:.0f} s ({inputs / took_s:.0f}/s), seed {arguments.seed}")
    print(f"crashes: {crashes}, hangs: {hangs}, stray writes: {stray}")
    if crashes or hangs or stray:
        print(f"the inputs, and why each was kept, are in {arguments.out}")
    return 1 if crashes or hangs or stray else 0


if __name__ == "__main__":
    sys.exit(main())
