"""Where a device keeps what it must not lose: events not yet delivered, taught labels, installed bundles."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from edgeclip.errors import ConfigError

VARIABLE = "EDGECLIP_STATE"
SERVICE = Path("/var/lib/edgeclip")  # the service's


def state_path(named: str | os.PathLike[str] | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """Where the state directory is, or would be: `named`, $EDGECLIP_STATE, $STATE_DIRECTORY (systemd's), or
    edgeclip/ in $XDG_STATE_HOME (~/.local/state)."""
    given = named or environment.get(VARIABLE) or environment.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    home = environment.get("XDG_STATE_HOME") or Path(environment.get("HOME") or Path.home()) / ".local" / "state"
    return Path(home) / "edgeclip"


def store_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where installed bundles are: bundles/ of the state directory. For root, who has no bundles of its own but looks
    after a device, it is the service's state directory, where that is there and the environment names no other."""
    named = environment.get(VARIABLE) or environment.get("STATE_DIRECTORY")
    if not named and os.geteuid() == 0 and SERVICE.is_dir():
        return SERVICE / "bundles"
    return state_path(environment=environment) / "bundles"


def state_dir(named: str | os.PathLike[str] | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """state_path(), made where it is missing. Raises ConfigError where it cannot be made."""
    path = state_path(named, environment)
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make the state directory {path}: {error.strerror}", f"set {VARIABLE} to a place you may write to"
        ) from error
    return path
