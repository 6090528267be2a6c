"""A stopped run ends as one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from toy import BOTH, BRIEF, history, saved

from edgeclip.atomic import atomic_write
from edgeclip.errors import DataError
from edgeclip.progress import Silent
from edgeclip.train.checkpoint import load_checkpoint
from edgeclip.train.run import train

pytestmark = pytest.mark.usefixtures("quick_curves")


def assert_same_weights(one: Path, two: Path) -> None:
    """Bit for bit, of the model, its average and the optimiser."""
    first, second = saved(one), saved(two)
    for kind in ("model", "average"):
        for name, tensor in first[kind].items():
            assert torch.equal(tensor, second[kind][name]), f"{kind} {name}"
    models = [load_checkpoint(out / "checkpoint.safetensors")[0].state_dict() for out in (one, two)]
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())


def without_time(out: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history(out)]


def start(config: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "edgeclip", "train", str(config), "--out", str(out), *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_seed_is_a_run(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(toy.write_config(tmp_path, [BRIEF], seed=seed), tmp_path / name, False, Silent())
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (tmp_path / "b" / "tokenizer.json").read_bytes()
    weights = [saved(tmp_path / name)["model"]["image.head.weight"] for name in ("a", "c")]
    assert not torch.equal(*weights)


def test_a_run_stopped_after_every_write_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever file is written, the power goes right after it; the run is resumed, until it is through."""
    made = toy.pictures(16, 1)
    toy.write_tar(tmp_path / "train.tar", made)
    teachers = toy.write_teachers(tmp_path, made)
    looks = {**BRIEF, "train": ["image"], "loss": "bank", "name": "looks", "distill": 1.0, "soft": 1.0}
    config = toy.write_config(
        tmp_path, [{**BRIEF, "epochs": 2}, looks], teachers={"image": teachers["image"]}, checkpoint_every_s=1e-9
    )
    train(config, tmp_path / "whole", False, Silent())

    class PowerCut(BaseException):
        pass

    out = tmp_path / "cut"
    kept: set[tuple[Path, bytes]] = set()
    writes: list[str] = []

    @contextmanager
    def cutting(path: Path, mode: str = "wb") -> Iterator[Any]:
        with atomic_write(path, mode) as stream:
            yield stream
        content = Path(path).read_bytes()
        if (path, content) not in kept:
            kept.add((path, content))
            writes.append(Path(path).name)
            raise PowerCut

    for module in ("run", "checkpoint", "space"):
        monkeypatch.setattr(f"edgeclip.train.{module}.atomic_write", cutting)
    figures = None
    for _ in range(60):
        with suppress(PowerCut):
            figures = train(config, out, (out / "state.pt").exists(), Silent())
            break
    assert figures is not None
    # A state for each of 9 batches, 3 epochs and 2 phases, at least.
    assert writes.count("state.pt") >= 14
    assert {"tokenizer.json", "space.npz", "history.jsonl", "checkpoint.safetensors"} <= set(writes)
    assert_same_weights(tmp_path / "whole", out)
    assert without_time(out) == without_time(tmp_path / "whole")


def test_a_run_killed_with_kill_9_resumes_and_ends_as_one_that_was_not(tmp_path: Path) -> None:
    phase = {**BOTH, "batch": 8, "epochs": 3}
    config = toy.write_config(tmp_path, [phase, {**BRIEF, "name": "more"}], checkpoint_every_s=1e-9)
    out, deadline_s = tmp_path / "killed", time.monotonic() + 180
    child = start(config, out)
    try:
        while not ((out / "state.pt").exists() and saved(out)["batch"] in range(2, 7)):
            assert child.poll() is None, child.communicate()
            assert time.monotonic() < deadline_s
            time.sleep(0.002)
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == -signal.SIGKILL
    state = saved(out)
    assert 0 < state["batch"] < 12  # in the middle of an epoch of twelve
    assert not (out / "checkpoint.safetensors").exists()
    resumed = start(config, out, "--resume")
    stdout, stderr = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, stderr.decode()
    assert f"resumed in phase pairs, epoch {state['epoch'] + 1}" in stderr.decode()
    assert stdout.decode().startswith(f"{out / 'checkpoint.safetensors'}: top-1 ")
    train(config, tmp_path / "whole", False, Silent())
    assert_same_weights(tmp_path / "whole", out)
    assert without_time(out) == without_time(tmp_path / "whole")


def test_a_finished_run_resumes_to_its_end(tmp_path: Path) -> None:
    config, out = toy.write_config(tmp_path, [BRIEF]), tmp_path / "out"
    figures = train(config, out, False, Silent())
    before = (out / "checkpoint.safetensors").read_bytes()
    assert train(config, out, True, Silent()) == figures
    assert (out / "checkpoint.safetensors").read_bytes() == before


def test_a_phase_added_later_goes_on_from_the_end(tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(toy.write_config(tmp_path, [BRIEF]), out, False, Silent())
    longer = toy.write_config(tmp_path, [BRIEF, {**BRIEF, "name": "more"}])
    train(longer, out, True, Silent())
    train(longer, tmp_path / "whole", False, Silent())
    assert_same_weights(tmp_path / "whole", out)


def test_resume_without_a_state_begins(tmp_path: Path) -> None:
    train(toy.write_config(tmp_path, [BRIEF]), tmp_path / "out", True, Silent())
    assert (tmp_path / "out" / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("damage", ["cut", "foreign", "other towers", "other phase"])
def test_a_state_that_does_not_continue_is_refused(tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    train(toy.write_config(tmp_path, [{**BRIEF, "epochs": 2}]), out, False, Silent())
    state = out / "state.pt"
    config = toy.write_config(tmp_path, [{**BRIEF, "epochs": 2}])
    if damage == "cut":
        state.write_bytes(state.read_bytes()[:-500])
    elif damage == "foreign":
        state.write_bytes(b"a note somebody left here\n" * 20)
    elif damage == "other towers":
        config = toy.write_config(tmp_path, [BRIEF], towers={**toy.TOWERS, "dim": 12})
    else:
        stored = saved(out)
        torch.save({**stored, "phase": 0, "epoch": 1, "optimiser": {"state": {}, "param_groups": []}}, state)
    with pytest.raises(DataError, match=r"state\.pt does not continue"):
        train(config, out, True, Silent())
