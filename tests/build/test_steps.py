"""A step is done or not done, never half done."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeclip.build.steps import Steps, digest_of_path, exclusive
from edgeclip.errors import UsageError
from edgeclip.progress import Silent


def write(directory: Path) -> None:
    (directory / "result").write_text("made")


def test_step_runs_once_for_the_same_inputs(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(directory: Path) -> None:
        made.append(directory)
        write(directory)

    for _ in range(2):
        assert (Steps(tmp_path, Silent()).run("export", {"a": 1}, None, make) / "result").read_text() == "made"
    assert len(made) == 1
    steps = Steps(tmp_path, Silent())
    steps.run("export", {"a": 2}, None, make)
    assert len(made) == 2
    assert steps.skipped == []
    assert "export" in steps.seconds


def test_step_whose_result_was_changed_or_lost_is_made_again(tmp_path: Path) -> None:
    for spoil in (lambda file: file.write_text("other"), lambda file: file.unlink()):
        spoil(Steps(tmp_path, Silent()).run("export", {}, None, write) / "result")
        steps = Steps(tmp_path, Silent())
        assert (steps.run("export", {}, None, write) / "result").read_text() == "made"
        assert steps.skipped == []


def test_step_that_fails_leaves_the_one_before_and_nothing_half_done(tmp_path: Path) -> None:
    Steps(tmp_path, Silent()).run("export", {"a": 1}, None, write)

    def fail(directory: Path) -> None:
        (directory / "result").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        Steps(tmp_path, Silent()).run("export", {"a": 2}, None, fail)
    assert (tmp_path / "export" / "result").read_text() == "made"
    steps = Steps(tmp_path, Silent())
    steps.run("export", {"a": 1}, None, fail)  # still up to date: not run
    assert steps.skipped == ["export"]
    assert (Steps(tmp_path, Silent()).run("export", {"a": 2}, None, write) / "result").read_text() == "made"


def test_two_builds_do_not_share_a_work_directory(tmp_path: Path) -> None:
    with exclusive(tmp_path), pytest.raises(UsageError, match="another build is running"), exclusive(tmp_path):
        pass
    with exclusive(tmp_path):
        pass


def test_digest_of_a_folder_knows_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1").write_text("x")
    first = digest_of_path(tmp_path)
    (tmp_path / "a" / "1").write_text("y")
    second = digest_of_path(tmp_path)
    (tmp_path / "a" / "1").rename(tmp_path / "a" / "2")
    assert len({first, second, digest_of_path(tmp_path)}) == 3
