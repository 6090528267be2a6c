from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from edgeclip.errors import ConfigError, UsageError
from edgeclip.runtime.sinks.snapshot import Snapshot
from sinks.picture import decision, frame, setting


def test_the_last_frame_is_written_when_the_run_ends(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    sink = Snapshot(str(path), setting())
    sink.open()
    for index in (1, 20):
        one = frame(index, height=400, width=400)
        sink.write(decision(one), one)
    assert not path.exists()
    sink.close()
    picture = cv2.imread(str(path))
    assert (picture[0, 0] == 200).all()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.png"]


def test_without_a_frame_nothing_is_written(tmp_path: Path) -> None:
    sink = Snapshot(str(tmp_path / "out.png"), setting())
    sink.open()
    sink.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out", "out.xyz", "out."])
def test_an_unknown_format_is_refused_before_the_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="not a picture format"):
        Snapshot(str(tmp_path / name), setting()).open()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sink = Snapshot(str(tmp_path / "file" / "out.png"), setting())
    sink.open()
    sink.write(decision(frame()), frame())
    with pytest.raises(ConfigError, match=r"out\.png"):
        sink.close()
