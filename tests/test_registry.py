from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeclip.errors import EngineError, SourceError
from edgeclip.registry import resolve


def test_an_attribute_is_imported_by_name() -> None:
    assert resolve("pathlib:Path") is Path


def test_a_missing_dependency_names_itself_and_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_it.py").write_text("import surely_not_installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SourceError, match=r"the x source .*surely_not_installed") as caught:
        resolve("needs_it:anything", extra="x", what="the x source", error=SourceError)
    assert caught.value.hint == "pip install 'edgeclip[x]'"
    assert "needs_it" not in sys.modules


def test_the_default_error_is_an_engine_that_cannot_be_had() -> None:
    with pytest.raises(EngineError):
        resolve("surely_not_installed:thing")


def test_a_mistake_of_our_own_is_not_disguised() -> None:
    with pytest.raises(ModuleNotFoundError):
        resolve("edgeclip.no_such_module:thing")
    with pytest.raises(AttributeError):
        resolve("pathlib:NoSuchThing")
