from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import write_bundle

from edgeclip.errors import DataError, EngineError, SourceError
from edgeclip.runtime.probation import AgeError, Unwatched, Watched, watch_bundle
from edgeclip.store import CURRENT, MAX_STARTS, Store
from edgeclip.types import Decision, Frame

FRAME = Frame(np.zeros((1, 1, 3), np.uint8), 0, 0, 0, "yard")


def decision(age_ms: float) -> Decision:
    return Decision(0, "yard", 0, 0, round(age_ms * 1e6), ("cat",), np.ones(1, np.float32), (0,), 0, 10.0)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "bundles")
    with store.locked():
        for name in ("old-1", "new-2"):
            (store.path / name).mkdir()
        store.put_in_force("old-1")
        store.confirm("old-1", 30.0)
        store.put_in_force("new-2")
    return store


def feed(watched: Watched, clock: Clock, age_ms: float, seconds: int) -> None:
    for _ in range(seconds * 10):
        clock.now_s += 0.1
        watched.write(decision(age_ms), FRAME)


def test_well_for_long_enough_is_trusted(store: Store) -> None:
    clock, said = Clock(), list[str]()
    watched = Watched(store, 60.0, said.append, clock)
    feed(watched, clock, 35.0, 58)
    assert store.state().probation is not None
    feed(watched, clock, 35.0, 10)
    assert store.state().probation is None
    assert store.state().age_p99_ms["new-2"] == pytest.approx(35.0)
    assert any("is trusted" in line for line in said)


def test_frames_that_come_to_be_late_roll_it_back(store: Store) -> None:
    clock, said = Clock(), list[str]()
    watched = Watched(store, 60.0, said.append, clock)
    with pytest.raises(AgeError) as caught:
        feed(watched, clock, 95.0, 30)
    assert watched.failed(caught.value)
    assert store.target(CURRENT) == "old-1"
    assert {one.name: one.status for one in store.listed()}["new-2"] == "rolled back"
    assert "95 ms" in said[-1]


def test_a_camera_that_is_away_is_not_the_bundle_s_fault(store: Store) -> None:
    for _ in range(2 * MAX_STARTS):
        watched = Watched(store, 60.0, lambda line: None)
        assert not watched.failed(SourceError("gone"))
    assert store.target(CURRENT) == "new-2"


def test_an_engine_that_fails_once_it_is_trusted_stays(store: Store) -> None:
    store.confirm("new-2")
    assert not Watched(store, 60.0, lambda line: None).failed(EngineError("it drifts"))
    assert store.target(CURRENT) == "new-2"


def test_crashes_roll_it_back_at_the_next_start(store: Store) -> None:
    said = list[str]()
    for _ in range(MAX_STARTS):
        Watched(store, 60.0, said.append)  # and nothing more: it was killed
    Watched(store, 60.0, said.append)
    assert store.target(CURRENT) == "old-1"
    assert "was rolled back to old-1" in said[-1]


def test_a_trusted_bundle_s_frame_age_is_kept_when_it_ends(store: Store) -> None:
    store.confirm("new-2")
    clock = Clock()
    watched = Watched(store, 60.0, lambda line: None, clock)
    feed(watched, clock, 12.0, 30)
    watched.ended()
    assert store.state().age_p99_ms["new-2"] == pytest.approx(12.0)


def test_other_bundles_are_not_watched(tiny_path: Path) -> None:
    assert isinstance(watch_bundle(None, 60.0, print), Unwatched)
    assert isinstance(watch_bundle(str(tiny_path), 60.0, print), Unwatched)


def test_a_run_whose_new_bundle_fails_its_self_test_goes_on_with_the_one_before(tmp_path: Path) -> None:
    """The real programme: the bundle rots after it was installed."""
    store = Store(tmp_path / "state" / "bundles")
    with store.locked():
        for name in ("old-1", "new-2"):
            write_bundle(store.path / name)
            store.put_in_force(name)
            if name == "old-1":
                store.confirm(name)
    (store.path / "new-2" / "image.tflite").write_bytes(b"rot")
    own = {name: value for name, value in os.environ.items() if not name.startswith("EDGECLIP_")}
    command = "run --bundle current --source demo --label dog --label cat --max-frames 3"
    done = subprocess.run(
        [sys.executable, "-m", "edgeclip", *command.split()],
        env={**own, "EDGECLIP_STATE": str(tmp_path / "state"), "EDGECLIP_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "new-2 is rolled back to old-1" in done.stderr
    assert "image.tflite does not match SHA256SUMS" in done.stderr
    assert store.target(CURRENT) == "old-1"


def test_a_store_that_cannot_be_written_ends_no_run(store: Store) -> None:
    clock, said = Clock(), list[str]()
    watched = Watched(store, 5.0, said.append, clock)
    shutil.rmtree(store.path)
    store.path.write_text("a disk that went wrong")
    feed(watched, clock, 35.0, 20)
    watched.ended()
    assert "cannot be kept" in said[-1]


def test_a_disk_that_takes_no_note_does_not_stop_a_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that became read-only: the bundle in force runs, and is neither counted nor trusted for it."""

    def refuse(*arguments: object, **options: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(store.path / ".lock"))

    clock, said = Clock(), list[str]()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        watched = Watched(store, 60.0, said.append, clock)
        assert said == [f"what is known of new-2 cannot be kept: {store.path}/.lock: Read-only file system"]
        feed(watched, clock, 35.0, 90)
        assert not watched.failed(EngineError("dead"))
    watched.ended()  # the disk is well again
    state = store.state()
    assert state.probation is not None
    assert state.probation.starts == 0
    assert "new-2" not in state.age_p99_ms


def test_a_trusted_one_that_rots_gives_way_to_the_one_before(tmp_path: Path) -> None:
    store = Store(tmp_path / "bundles")
    with store.locked():
        for name in ("old-1", "new-2"):
            write_bundle(store.path / name)
            store.put_in_force(name)
            store.confirm(name)
    said: list[str] = []
    watched = Watched(store, 60.0, said.append)
    assert not watched.failed(DataError("labels.txt:3: empty"))  # not the bundle's fault
    (store.path / "new-2" / "image.tflite").write_bytes(b"rot")
    assert watched.failed(DataError("image.tflite does not match SHA256SUMS"))
    assert store.target(CURRENT) == "old-1"
    assert said == ["new-2 is rolled back to old-1: image.tflite does not match SHA256SUMS"]
    assert {one.name: one.why for one in store.listed()}["new-2"] == "image.tflite does not match SHA256SUMS"
    (store.path / "old-1" / "image.tflite").write_bytes(b"rot")
    assert not Watched(store, 60.0, said.append).failed(DataError("image.tflite does not match SHA256SUMS"))
