from pathlib import Path

import pytest

from edgeclip.errors import ConfigError
from edgeclip.state import state_dir


def test_what_is_named_goes_before_the_environment(tmp_path: Path) -> None:
    environment = {"EDGECLIP_STATE": str(tmp_path / "b"), "STATE_DIRECTORY": str(tmp_path / "c"), "HOME": str(tmp_path)}
    assert state_dir(tmp_path / "a", environment) == tmp_path / "a"
    assert state_dir(None, environment) == tmp_path / "b"
    del environment["EDGECLIP_STATE"]
    assert state_dir(None, environment) == tmp_path / "c"
    del environment["STATE_DIRECTORY"]
    assert state_dir(None, environment) == tmp_path / ".local" / "state" / "edgeclip"
    assert all((tmp_path / name).is_dir() for name in "abc")


def test_a_place_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot make the state directory"):
        state_dir(tmp_path / "file" / "state", {})
