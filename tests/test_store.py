from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeclip.bundle import is_held, open_bundle
from edgeclip.errors import EdgeclipError, UsageError
from edgeclip.install import export_bundle
from edgeclip.store import CURRENT, MAX_STARTS, PREVIOUS, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "bundles")
    with store.locked():
        pass
    for name in ("a-1", "b-2", "c-3"):
        (store.path / name).mkdir()
        (store.path / name / "manifest.json").write_text("{}")
    store.put_in_force("a-1")
    store.confirm("a-1", 20.0)
    return store


def test_a_new_one_is_on_probation_and_then_trusted(store: Store) -> None:
    store.put_in_force("b-2")
    assert (store.target(CURRENT), store.target(PREVIOUS)) == ("b-2", "a-1")
    assert {one.name: one.status for one in store.listed()} == {
        "a-1": "installed",
        "b-2": "on probation",
        "c-3": "installed",
    }
    assert store.begin() == "b-2"
    assert store.confirm("b-2", 25.0)
    assert not store.confirm("b-2", 26.0)
    assert store.state().age_p99_ms == {"a-1": 20.0, "b-2": 26.0}


def test_starts_that_do_not_end_well_roll_it_back(store: Store) -> None:
    store.put_in_force("b-2")
    for _ in range(MAX_STARTS):
        assert store.begin() == "b-2"
    assert store.begin() == "a-1"
    assert store.target(PREVIOUS) is None
    found = {one.name: one for one in store.listed()}
    assert found["b-2"].status == "rolled back"
    assert "3 starts" in found["b-2"].why
    assert store.begin() == "a-1"


def test_starts_that_were_ended_by_request_do_not_count(store: Store) -> None:
    store.put_in_force("b-2")
    for _ in range(3 * MAX_STARTS):
        assert store.begin() == "b-2"
        store.ended("b-2")


def test_the_first_one_of_all_has_nothing_to_go_back_to(tmp_path: Path) -> None:
    store = Store(tmp_path / "bundles")
    with store.locked():
        (store.path / "a-1").mkdir()
        store.put_in_force("a-1")
        assert store.fail("it fails") is None
        for _ in range(3 * MAX_STARTS):
            assert store.begin() == "a-1"
        with pytest.raises(UsageError, match="no previous bundle"):
            store.roll_back()


def test_a_second_one_on_probation_goes_back_to_what_was_trusted(store: Store) -> None:
    store.put_in_force("b-2")
    store.put_in_force("c-3")
    assert store.fail("frames are late") == "a-1"
    assert store.target(CURRENT) == "a-1"


@pytest.mark.parametrize("trusted", [False, True])
def test_going_back_by_request_twice_does_not_go_forth(store: Store, trusted: bool) -> None:
    store.put_in_force("b-2")
    if trusted:
        store.confirm("b-2")
    assert store.roll_back() == ("b-2", "a-1")
    assert store.state().probation is None
    with pytest.raises(UsageError, match="no previous bundle"):
        store.roll_back()
    assert {one.name: (one.status, one.why) for one in store.listed()} == {
        "a-1": ("in force", ""),
        "b-2": ("rolled back", "by request"),
        "c-3": ("installed", ""),
    }
    store.put_in_force("b-2")  # installed again, on probation again
    assert {one.name: (one.status, one.why) for one in store.listed()}["b-2"] == ("on probation", "")


@contextmanager
def cut_off_after(links: int, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The block ends as by kill -9, after so many links were set."""
    done, link = [], store._link

    def cut_off(name: str, to: str | None) -> None:
        if len(done) == links:
            raise KeyboardInterrupt
        done.append(name)
        link(name, to)

    with monkeypatch.context() as patch:
        patch.setattr(store, "_link", cut_off)
        with pytest.raises(KeyboardInterrupt):
            yield


@pytest.mark.parametrize("done", [0, 1])
def test_going_back_by_request_that_was_cut_off_is_finished(
    store: Store, done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_in_force("b-2")
    store.confirm("b-2")
    with cut_off_after(done, store, monkeypatch):
        store.roll_back()
    assert store.begin() == "a-1"
    assert store.target(PREVIOUS) is None
    assert {one.name: one.why for one in store.listed()}["b-2"] == "by request"


@pytest.mark.parametrize("step", ["state written", "current switched", "previous not", "rollback begun"])
def test_a_change_that_was_cut_off_is_finished(store: Store, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after kill -9 between two steps: what is in force is whole, and the next one goes on."""
    links = {"state written": 0, "current switched": 1, "previous not": 1, "rollback begun": 2}[step]
    with cut_off_after(links, store, monkeypatch):
        _change(store)
    store.settle()
    wanted = "b-2" if step in ("current switched", "previous not") else "a-1"
    assert store.target(CURRENT) == wanted
    assert (store.state().probation is not None) == (wanted == "b-2")
    assert store.target(PREVIOUS) == ("a-1" if wanted == "b-2" else None)
    if step == "rollback begun":
        assert {one.name: one.why for one in store.listed()}["b-2"] == "it fails"


def _change(store: Store) -> None:
    store.put_in_force("b-2")
    store.fail("it fails")


def test_what_is_needed_is_not_removed(store: Store) -> None:
    store.put_in_force("b-2")
    for name, why in (("b-2", "is in force"), ("a-1", "goes back to"), ("x-9", "is not installed")):
        with pytest.raises(UsageError, match=why):
            store.remove(name)
    store.remove("c-3")
    assert store.names() == ["a-1", "b-2"]


def test_a_name_from_outside_removes_nothing_outside(store: Store) -> None:
    for name in ("..", "../..", CURRENT, ".lock", "/tmp"):
        with pytest.raises(UsageError):
            store.remove(name)


def test_two_at_once_wait_for_each_other(store: Store) -> None:
    with (
        store.locked(),
        pytest.raises(EdgeclipError, match="another edgeclip is changing"),
        store.locked(timeout_s=0.05),
    ):
        pass


def test_leftovers_are_swept(store: Store) -> None:
    (store.path / ".incoming-123").mkdir()
    (store.path / ".incoming-123" / "image.tflite").write_text("half")
    (store.path / ".state.json.xyz.part").write_text("{")
    store.sweep()
    assert store.names() == ["a-1", "b-2", "c-3"]
    assert not list(store.path.glob(".incoming*"))
    assert not list(store.path.glob("*.part"))


def test_a_state_that_cannot_be_read_is_begun_anew_and_says_so(store: Store) -> None:
    (store.path / "state.json").write_bytes(b"{\xff")
    assert store.begin() == "a-1"
    store.confirm("a-1", 20.0)
    assert [event.what for event in store.state().events] == ["state lost"]


def test_what_a_run_still_uses_stays(store: Store, tiny_path: Path) -> None:
    shutil.copytree(tiny_path, store.path / "used-1")
    running = open_bundle(store.path / "used-1")
    store.prune()
    assert "used-1" in store.names()
    with pytest.raises(UsageError, match="a run that is going on uses used-1"):
        store.remove("used-1")
    del running
    store.prune()
    assert store.names() == ["a-1"]


def test_an_archive_that_is_opened_again_is_unpacked_once(tiny_path: Path, tmp_path: Path) -> None:
    export_bundle(tiny_path, tmp_path / "tiny.tar")
    first, second = open_bundle(tmp_path / "tiny.tar"), open_bundle(tmp_path / "tiny.tar")
    assert first.path == second.path
    assert is_held(first.path)
