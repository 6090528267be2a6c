"""Where a bundle may be put, told before any work is done."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from edgeclip.errors import ConfigError, UsageError
from edgeclip.replace import require_replaceable, require_writable


def test_a_place_that_takes_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "bundle", tmp_path / "file" / "deeper" / "bundle.tar"):
        with pytest.raises(ConfigError, match=f"{tmp_path / 'file'} takes no bundle: Not a directory"):
            require_writable(out)
    require_writable(tmp_path / "new" / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # nothing is left of the trial


def test_a_place_below_one_that_this_user_may_not_enter_is_told() -> None:
    with tempfile.TemporaryDirectory() as place:
        closed = Path(place) / "closed"
        closed.mkdir(mode=0)
        Path(place).chmod(0o555)
        if (child := os.fork()) == 0:  # root may enter everywhere
            code = 1
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)
                require_writable(closed / "a" / "bundle")
            except ConfigError as error:
                code = 0 if error.message == f"{closed} takes no bundle: Permission denied" else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0


def test_what_is_no_bundle_is_left(tmp_path: Path, tiny_path: Path) -> None:
    require_replaceable(tiny_path)
    (tmp_path / "manifest.json").write_text("{}")  # a web page has one too
    with pytest.raises(UsageError, match=r"holds manifest\.json and no SHA256SUMS"):
        require_replaceable(tmp_path)
    (tmp_path / "manifest.json").rename(tmp_path / "notes.txt")
    with pytest.raises(UsageError, match=r"holds notes\.txt and no manifest\.json"):
        require_replaceable(tmp_path)
