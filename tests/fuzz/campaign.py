"""Shares N inputs out over targets and generators, runs them in child processes, and sees these crash and hang."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fuzz.guard import Record, keep

WORKER = "fuzz.worker"
POLL_S = 0.2
BLOCKED = 5.0  # times the limit
START_LIMIT_S = 120.0
OURS = {"log", "record", "input", "corpus", "state", "elsewhere"}

# Shares of N. Cheap readers are given more; libFuzzer goes where there is a grammar for coverage to find.
SHARES: dict[str, dict[str, float]] = {
    "manifest": {"mutation": 0.10, "hypothesis": 0.03, "atheris": 0.07},
    "archive": {"mutation": 0.09, "atheris": 0.05},
    "config": {"mutation": 0.07, "hypothesis": 0.02, "atheris": 0.03},
    "labels": {"mutation": 0.09, "hypothesis": 0.03, "atheris": 0.05},
    "watches": {"mutation": 0.07, "hypothesis": 0.02, "atheris": 0.03},
    "picture": {"mutation": 0.10},
    "film": {"mutation": 0.03},
    "tokenizer": {"mutation": 0.04, "atheris": 0.03},
    "golden": {"mutation": 0.02},
    "frames": {"mutation": 0.01},
    "thresholds": {"mutation": 0.02},
}


@dataclass
class Outcome:
    """What came of one share. Kept inputs are in the folder that the campaign was given."""

    target: str
    generator: str
    executed: int = 0
    accepted: int = 0
    refused: int = 0
    crashes: int = 0
    hangs: int = 0
    stray: int = 0
    seconds: float = 0.0
    peak_mb: int = 0


def has_atheris() -> bool:
    return importlib.util.find_spec("atheris") is not None


def shared(count: int, targets: Sequence[str], atheris: bool) -> list[tuple[str, str, int]]:
    """(target, generator, inputs), `count` in total. Without atheris, mutation has its share."""
    shares = []
    for target in targets:
        parts = dict(SHARES[target])
        if not atheris:
            parts["mutation"] += parts.pop("atheris", 0.0)
        shares += [(target, generator, part) for generator, part in parts.items()]
    total = sum(part for *_, part in shares)
    counts = [max(1, int(count * part / total)) for *_, part in shares]
    counts[0] += max(0, count - sum(counts))
    return [(target, generator, some) for (target, generator, _), some in zip(shares, counts, strict=True)]


@dataclass
class Campaign:
    """work: scratch. out: where inputs that did harm are kept. limit_s: of processor time; more of it is a hang."""

    work: Path
    out: Path
    seed: int = 0
    limit_s: float = 20.0
    on_end: Callable[[Outcome], None] = print

    def __post_init__(self) -> None:
        self._children: set[subprocess.Popen[bytes]] = set()
        self._stopping = False

    def run(self, jobs: Sequence[tuple[str, str, int]], processes: int) -> list[Outcome]:
        """Where it is cut short, by Ctrl-C or SystemExit, the children end with it."""
        # The longest first, so that both processors are busy to the end.
        slow = {"film": 20, "config": 5, "watches": 5, "picture": 2}
        order = sorted(jobs, key=lambda job: -job[2] * slow.get(job[0], 1))
        with ThreadPoolExecutor(processes) as pool:
            try:
                ended = dict(zip(order, pool.map(self._job, order), strict=True))
            except BaseException:
                self._stop()
                raise
        return [ended[job] for job in jobs]

    def _stop(self) -> None:
        self._stopping = True
        for child in tuple(self._children):
            child.kill()

    def _job(self, job: tuple[str, str, int]) -> Outcome:
        target, generator, count = job
        outcome, begun_s = Outcome(target, generator), time.monotonic()
        while outcome.executed < count and not self._stopping:
            folder = self.work / f"{target}-{generator}-{outcome.executed}"
            before = outcome.executed
            self._child(folder, outcome, count)
            if self._stopping:
                return outcome
            if outcome.executed == before:
                log = (folder / "log").read_text(errors="replace")
                raise RuntimeError(f"fuzz: {target} by {generator} does not start:\n{log}")
            shutil.rmtree(folder, ignore_errors=True)
        outcome.seconds = time.monotonic() - begun_s
        self.on_end(outcome)
        return outcome

    def _child(self, folder: Path, outcome: Outcome, count: int) -> None:
        """One process, until it is done, dies, or has to be killed."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        record = Record(folder / "record")
        facts = {"target": outcome.target, "generator": outcome.generator, "folder": str(folder), "out": str(self.out)}
        numbers = {
            "seed": self.seed,
            "first": outcome.executed,
            "count": count - outcome.executed,
            "parent": os.getpid(),
        }
        command = [sys.executable, "-X", "faulthandler", "-m", WORKER, json.dumps({**facts, **numbers})]
        with (folder / "log").open("wb") as log:
            child = subprocess.Popen(command, env=_environment(), stdout=log, stderr=log, cwd=folder)
        self._children.add(child)
        if self._stopping:  # since the last look
            child.kill()
        hung = self._hung(child, record)
        self._children.discard(child)
        if self._stopping:
            return
        for field in ("executed", "accepted", "refused", "crashes", "stray"):
            setattr(outcome, field, getattr(outcome, field) + record[field])
        if hung or (child.returncode != 0 and record["began_ns"]):
            why = (folder / "log").read_text(errors="replace")[-20_000:]
            how = f"no end after {self.limit_s} s" if hung else f"the process died: {_how(child.returncode)}"
            keep(self.out, outcome.target, "hang" if hung else "death", record.data, f"{how}\n{why}")
            outcome.executed += 1
            outcome.hangs += hung
            outcome.crashes += not hung
        for path in _stray_files(folder):
            outcome.stray += 1
            keep(self.out, outcome.target, "stray", record.data, f"written outside the state directory: {path}")
        outcome.peak_mb = max(outcome.peak_mb, record["peak_kb"] >> 10)

    def _hung(self, child: subprocess.Popen[bytes], record: Record) -> bool:
        """Waits for the end; kills it where one input takes too long, and then says True.

        Too long is processor time, or BLOCKED times as long of waiting: a busy machine makes no hang.
        """
        started_s, seen_ns, used_s, polls = time.monotonic(), 0, 0.0, 0
        while True:
            try:
                child.wait(POLL_S)
                return False
            except subprocess.TimeoutExpired:
                pass
            began_ns = record["began_ns"]
            if began_ns != seen_ns:
                seen_ns, used_s, polls = began_ns, processor_s(child.pid), 0
            polls += 1
            over = began_ns and (
                processor_s(child.pid) - used_s > self.limit_s or polls * POLL_S > BLOCKED * self.limit_s
            )
            never = not record["executed"] and not began_ns and time.monotonic() - started_s > START_LIMIT_S
            if over or never:
                child.send_signal(signal.SIGABRT)  # faulthandler tells where it was
                try:
                    child.wait(2)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
                return bool(over)


def processor_s(pid: int) -> float:
    """Of a child not yet waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _how(returncode: int) -> str:
    return signal.Signals(-returncode).name if returncode < 0 else f"exit code {returncode}"


def _stray_files(folder: Path) -> list[Path]:
    """What native code wrote, which no audit hook sees: beside the input, or where the process was."""
    beside = sorted((folder / "input").iterdir())[1:]
    return [*beside, *(folder / "elsewhere").iterdir(), *(path for path in folder.iterdir() if path.name not in OURS)]


def _environment() -> dict[str, str]:
    tests = Path(__file__).parent.parent
    paths = [str(tests), str(tests.parent), *filter(None, sys.path)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FFMPEG_THREADS"), "1")
    return {
        **os.environ,
        **threads,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
