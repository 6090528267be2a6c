"""A short campaign over every target, and that a campaign sees what it is there to see."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeclip.errors import DataError
from fuzz.campaign import SHARES, Campaign, Outcome, shared
from fuzz.guard import Guard, Record

INPUTS = 1000


def test_no_input_crashes_hangs_or_writes_elsewhere(tmp_path: Path) -> None:
    jobs = [(target, "mutation", INPUTS // len(SHARES)) for target in SHARES]
    jobs += [(target, "hypothesis", 30) for target in ("config",)]
    ended: list[Outcome] = []
    campaign = Campaign(tmp_path / "work", tmp_path / "found", seed=1, limit_s=60, on_end=ended.append)
    outcomes = campaign.run(jobs, processes=2)
    why = [path.read_text()[-1500:] for path in sorted((tmp_path / "found").glob("*.txt"))]
    assert not any(outcome.crashes or outcome.hangs or outcome.stray for outcome in outcomes), why
    assert [outcome.executed for outcome in outcomes] == [count for *_, count in jobs]
    assert all(outcome.refused for outcome in outcomes)
    assert sum(outcome.accepted for outcome in outcomes) > INPUTS // 20
    assert len(ended) == len(jobs)


@pytest.mark.parametrize("atheris", [True, False])
def test_the_inputs_shared_out_are_those_asked_for(atheris: bool) -> None:
    jobs = shared(100_000, list(SHARES), atheris)
    assert sum(count for *_, count in jobs) == 100_000
    assert any(generator == "atheris" for _, generator, _ in jobs) == atheris


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guard")


def guarded(place: Path, target: Callable[[Path, bytes], object], data: bytes = b"input") -> Record:
    """The record after one input."""
    (place / "state").mkdir(exist_ok=True)
    record = Record(place / f"record-{time.monotonic_ns()}")
    Guard(target, "made-up", place / "input", record, place / "state", place / "found")(data)
    assert record["began_ns"] == 0
    assert record["executed"] == 1
    return record


def test_a_refusal_is_what_is_wanted(place: Path) -> None:
    def refuse(path: Path, data: bytes) -> None:
        assert path.read_bytes() == data
        raise DataError("no")

    record = guarded(place, refuse)
    assert (record["refused"], record["crashes"], record["stray"]) == (1, 0, 0)


def test_another_exception_is_a_crash_and_its_input_is_kept(place: Path) -> None:
    assert guarded(place, lambda path, data: {}[data], b"the culprit")["crashes"] == 1
    (kept,) = [path for path in (place / "found").iterdir() if path.read_bytes() == b"the culprit"]
    assert "KeyError" in kept.with_name(kept.name + ".txt").read_text()


@pytest.mark.parametrize(
    "act",
    [
        lambda place: (place / "elsewhere").write_text("x"),
        lambda place: os.mkdir(place / "made"),
        lambda place: os.rename(place / "input", place / "input"),
        lambda place: os.symlink("/etc", place / "state" / ".." / "link"),
        lambda place: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("127.0.0.1", 9)),
    ],
    ids=["write", "mkdir", "rename", "symlink", "connect"],
)
@pytest.mark.filterwarnings("ignore:unclosed")
def test_what_leaves_the_state_directory_is_seen(act: Callable[[Path], object], place: Path) -> None:
    assert guarded(place, lambda path, data: act(place))["stray"] == 1


def test_writing_into_the_state_directory_is_allowed(place: Path) -> None:
    record = guarded(place, lambda path, data: (place / "state" / "events").write_bytes(data))
    assert (record["accepted"], record["stray"]) == (1, 0)


def test_a_death_and_a_hang_are_seen_and_the_campaign_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the process that watches, with a target that dies on some inputs and never returns from others."""
    (tmp_path / "doomed.py").write_text(DOOMED)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("fuzz.campaign.WORKER", "doomed")
    campaign = Campaign(tmp_path / "work", tmp_path / "found", limit_s=1.0)
    (outcome,) = campaign.run([("labels", "mutation", 6)], processes=1)
    assert (outcome.executed, outcome.crashes, outcome.hangs) == (6, 1, 1)
    kept = {path.name.rsplit("-", 1)[0]: path.read_bytes() for path in (tmp_path / "found").glob("*[!t]")}
    assert kept == {"labels-death": b"2", "labels-hang": b"4"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_what_ends_a_campaign_ends_its_children(number: signal.Signals, tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tests, tests.parent)))}
    command = [sys.executable, "-m", "fuzz", "1000000", "--target", "labels", "--target", "watches", "--no-atheris"]
    command += ["--processes", "2", "--out", str(tmp_path / "found")]
    campaign = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background ignores it
    )
    try:
        until(lambda: len(children(campaign.pid)) == 2)
        workers = children(campaign.pid)
        time.sleep(1.0)  # into their work
        work = next(path for path in Path(f"/proc/{workers[0]}/cwd").resolve().parents if "fuzz-" in path.name)
        campaign.send_signal(number)
        campaign.communicate(timeout=30)
        until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    finally:
        campaign.kill()
        campaign.communicate()
    assert campaign.returncode != 0
    assert not (tmp_path / "found").exists()  # a child that is killed is no crash
    assert work.exists() == (number == signal.SIGKILL)
    shutil.rmtree(work, ignore_errors=True)


def children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def until(true: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.02)


DOOMED = """
import json, os, signal, sys, time
from pathlib import Path
from fuzz.guard import Guard, Record

def target(path, data):
    if data == b"2":
        os.kill(os.getpid(), signal.SIGSEGV)
    if data == b"4":
        time.sleep(60)

facts = json.loads(sys.argv[1])
folder = Path(facts["folder"])
for name in ("input", "elsewhere", "state"):
    (folder / name).mkdir()
guard = Guard(target, "labels", folder / "input" / "x", Record(folder / "record"), folder / "state", Path(facts["out"]))
for number in range(facts["first"], facts["first"] + facts["count"]):
    guard(str(number).encode())
"""
