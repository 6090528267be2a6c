"""What tests of commands share: the program as a process, and what it may say of a mistake."""

from __future__ import annotations

import sys

import pytest

Captured = pytest.CaptureFixture[str]


def complaint(capsys: Captured) -> str:
    """What was said on standard error: at most an error and its remedy, and never a traceback."""
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert said.err.startswith("error: ")
    assert len(said.err.splitlines()) <= 2
    return said.err


def program(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edgeclip", *map(str, arguments)]
