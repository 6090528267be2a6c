from pathlib import Path

import pytest

from edgeclip import state
from edgeclip.errors import ConfigError
from edgeclip.state import state_dir, store_path


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


def test_root_s_bundles_are_the_service_s_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = {"HOME": str(tmp_path)}
    monkeypatch.setattr(state, "SERVICE", tmp_path / "service")
    monkeypatch.setattr(state.os, "geteuid", lambda: 0)
    assert store_path(home) == tmp_path / ".local" / "state" / "edgeclip" / "bundles"
    (tmp_path / "service").mkdir()
    assert store_path(home) == tmp_path / "service" / "bundles"
    assert store_path({**home, "EDGECLIP_STATE": str(tmp_path / "a")}) == tmp_path / "a" / "bundles"
    monkeypatch.setattr(state.os, "geteuid", lambda: 1000)
    assert store_path(home) == tmp_path / ".local" / "state" / "edgeclip" / "bundles"
    assert not (tmp_path / ".local").exists()  # nothing is made by asking
