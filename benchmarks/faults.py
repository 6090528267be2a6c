"""What goes wrong with cameras on a network: how soon it is found, how soon it is over, and that memory stays flat.

    python benchmarks/faults.py --repetitions 5        (make faults)

The real `edgeclip run` reads a real RTSP server on loopback (tests/rtsp_server.py) that is made to misbehave. A loss
counts as found when the run says so, and as over with the capture of the first of ten frames without another loss.
Faults that are none of the stream's (a slow camera, another resolution) must not be taken for a loss.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from observed import LOST, ObservedRun, percentile
from rtsp_server import Picture, RtspServer, moving_bar

from edgeclip.runtime.outage import STEADY_S

DETECT_LIMIT_S = 5.0
RECOVER_LIMIT_S = 3.0  # at the 95th percentile, of outages of up to a minute
RSS_LIMIT_MB = 5.0  # from the end of the first repetition to the end of the last
STEADY_FRAMES = 10
QUIET_S = STEADY_S + 1.0  # between faults: each loss is news then
Act = Callable[[RtspServer], None]


@dataclass(frozen=True)
class Fault:
    """begin, end: acts on the server. is_loss: whether the run must say that the source is lost."""

    name: str
    begin: Act
    end: Act
    lasts_s: float
    is_loss: bool


@dataclass
class Measured:
    """detect_s: none where no loss was said. silence_s: the longest time between two frames, where nothing was lost."""

    fault: str
    detect_s: float | None
    recover_s: float
    silence_s: float
    age_p99_ms: float
    rss_mb: float


def faults(gone_s: float) -> list[Fault]:
    def put(**values: object) -> Act:
        return lambda server: [setattr(server, name, value) for name, value in values.items()] and None

    return [
        Fault("stall", put(stalled=True), put(stalled=False), 7.0, True),
        Fault("drop", RtspServer.drop, lambda server: None, 0.0, True),
        Fault("garbage", put(noise=1.0), put(noise=0.0), 7.0, True),
        Fault("resolution change", put(picture_at=larger), put(picture_at=moving_bar), 3.0, False),
        Fault("comes back with another one", comes_back_with(larger), comes_back_with(moving_bar), 5.0, True),
        Fault("duplicate-frame flood", put(frozen=True), put(frozen=False), 7.0, True),
        Fault("slow camera, 1 fps", put(fps=1), put(fps=25), 7.0, False),
        Fault(f"comes and goes for {gone_s:g} s", put(drop_every_s=6.0), put(drop_every_s=0.0), gone_s, True),
        Fault(f"server gone for {gone_s:g} s", RtspServer.stop, RtspServer.start, gone_s, True),
    ]


def comes_back_with(picture_at: Callable[[int], Picture]) -> Act:
    def act(server: RtspServer) -> None:
        server.picture_at = picture_at
        server.drop()

    return act


def larger(index: int) -> Picture:
    return moving_bar(index, 640, 360)


def measure(fault: Fault, server: RtspServer, run: ObservedRun) -> Measured:
    """One fault, from its beginning until the frames are back."""
    first, begun_s = len(run.captured_s), time.monotonic()
    fault.begin(server)
    while time.monotonic() < begun_s + fault.lasts_s or (
        fault.is_loss and not fault.lasts_s and not run.lost_after(begun_s)
    ):
        time.sleep(0.01)
        if time.monotonic() > begun_s + fault.lasts_s + 3 * DETECT_LIMIT_S:
            break
    ended_s = time.monotonic() if fault.lasts_s else begun_s
    fault.end(server)
    back_s = steady_from(run, ended_s)
    lost_s = run.lost_after(begun_s)
    times = [begun_s, *run.captured_s[first:]]
    time.sleep(QUIET_S)
    ages = list(run.ages_ms[first:])
    return Measured(
        fault.name,
        None if lost_s is None else lost_s - begun_s,
        back_s - ended_s,
        max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0),
        percentile(ages, 0.99),
        run.taken().rss_mb,
    )


def steady_from(run: ObservedRun, ended_s: float, limit_s: float = 120.0) -> float:
    """When the first frame after `ended_s` was captured that STEADY_FRAMES others followed without a loss."""
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        losses = [at_s for at_s, line in list(run.notices) if at_s >= ended_s and LOST in line]
        since_s = max([ended_s, *losses])
        after = [at_s for at_s in run.captured_s[-200:] if at_s > since_s]
        if len(after) > STEADY_FRAMES:
            return after[0]
        if run.process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError("the frames did not come back:\n" + "\n".join(line for _, line in run.notices[-20:]))


def verdict(fault: Fault, some: list[Measured]) -> dict[str, object]:
    """One row of the report."""
    found = [one.detect_s for one in some if one.detect_s is not None]
    worst = max(found) if found else None
    recover_s = percentile([one.recover_s for one in some], 0.95)
    silence_s = max(one.silence_s for one in some)
    if fault.is_loss:
        passed = len(found) == len(some) and worst is not None and worst <= DETECT_LIMIT_S
    else:
        passed = not found and silence_s <= DETECT_LIMIT_S
    return {
        "fault": fault.name,
        "repetitions": len(some),
        "is_loss": fault.is_loss,
        "detect_worst_s": worst,
        "recover_p95_s": recover_s,
        "recover_worst_s": max(one.recover_s for one in some),
        "silence_worst_s": silence_s,
        "age_p99_ms": max(one.age_p99_ms for one in some),
        "passed": passed and recover_s <= RECOVER_LIMIT_S,
    }


def table(rows: list[dict[str, object]], growth_mb: float, cameras: str) -> str:
    lines = [
        f"# Faults of a camera on the network\n\n{cameras}\n",
        "| fault | times | found within | frames back within (p95) | longest silence | frame age p99 | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        found = row["detect_worst_s"]
        said = (
            f"{found:.1f} s"
            if isinstance(found, float)
            else "no loss, none said"
            if not row["is_loss"]
            else "not found"
        )
        lines.append(
            f"| {row['fault']} | {row['repetitions']} | {said} | {row['recover_p95_s']:.1f} s | "
            f"{row['silence_worst_s']:.1f} s | {row['age_p99_ms']:.0f} ms | {'held' if row['passed'] else 'MISSED'} |"
        )
    flat = "held" if growth_mb <= RSS_LIMIT_MB else "MISSED"
    lines.append(f"\nMemory after the last repetition, beside after the first: {growth_mb:+.1f} MB ({flat}).")
    lines.append(
        f"Bounds: found in {DETECT_LIMIT_S:g} s, back in {RECOVER_LIMIT_S:g} s at p95, memory {RSS_LIMIT_MB:g} MB."
    )
    return "\n".join(lines) + "\n"


def suite(repetitions: int, gone_s: float, folder: Path, only: list[str]) -> dict[str, object]:
    chosen = [fault for fault in faults(gone_s) if not only or any(fault.name.startswith(name) for name in only)]
    if not chosen:
        sys.exit(f"no fault is called that; there are: {', '.join(fault.name for fault in faults(gone_s))}")
    measured: dict[str, list[Measured]] = {fault.name: [] for fault in chosen}
    ends_mb = []
    with RtspServer() as server:
        run = ObservedRun(["--source", server.url, "--label", "a white bar", "--label", "a dog"], folder / "state")
        try:
            run.wait_for_frames(50)
            for number in range(repetitions):
                for fault in chosen:
                    one = measure(fault, server, run)
                    measured[fault.name].append(one)
                    found = "-" if one.detect_s is None else f"{one.detect_s:.2f} s"
                    print(
                        f"{number + 1}/{repetitions} {fault.name}: found {found}, back {one.recover_s:.2f} s, "
                        f"{one.rss_mb:.1f} MB",
                        file=sys.stderr,
                        flush=True,
                    )
                ends_mb.append(run.taken().rss_mb)
        finally:
            exit_code = run.stop()
    rows = [verdict(fault, measured[fault.name]) for fault in chosen]
    growth_mb = ends_mb[-1] - ends_mb[0]
    about = f"{platform.machine()}, {os.cpu_count()} processors, load {os.getloadavg()[1]:.1f}, 320 x 240 at 25 fps"
    return {
        "about": about,
        "faults": rows,
        "rss_growth_mb": growth_mb,
        "exit_code": exit_code,
        "samples": [asdict(one) for some in measured.values() for one in some],
        "markdown": table(rows, growth_mb, about),
        "passed": all(row["passed"] for row in rows) and growth_mb <= RSS_LIMIT_MB and exit_code == 0,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--gone-s", type=float, default=60.0, help="how long the server is gone (default: 60)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a fault; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("build-work/faults"), metavar="DIR", help="of the report")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgeclip-faults-") as folder:
        result = suite(arguments.repetitions, arguments.gone_s, Path(folder), arguments.only)
    arguments.out.mkdir(parents=True, exist_ok=True)
    markdown = str(result.pop("markdown"))
    (arguments.out / "faults.md").write_text(markdown)
    (arguments.out / "faults.json").write_text(json.dumps(result, indent=2) + "\n")
    print(markdown)
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
