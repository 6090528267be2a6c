from __future__ import annotations

import io
import os
import socket
from pathlib import Path
from typing import TextIO, cast

import pytest

from edgeclip.runtime import journal


@pytest.fixture
def listening(tmp_path: Path) -> socket.socket:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(tmp_path / "socket"))
        yield journald


def test_an_entry_has_its_fields(tmp_path: Path, listening: socket.socket) -> None:
    assert journal.send("two\nlines", journal.WARNING, {"EDGECLIP_SOURCE": "yard"}, str(tmp_path / "socket"))
    assert listening.recv(1000) == (
        b"MESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\nPRIORITY=4\nSYSLOG_IDENTIFIER=edgeclip\nEDGECLIP_SOURCE=yard\n"
    )


def test_a_line_for_a_terminal_is_plain() -> None:
    stream = io.StringIO()
    journal.write(stream, "hello", journal.INFO)
    assert stream.getvalue() == "hello\n"


def connected(path: Path, monkeypatch: pytest.MonkeyPatch) -> TextIO:
    """A stream that JOURNAL_STREAM names."""
    stream = path.open("w")
    found = os.fstat(stream.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    return cast(TextIO, stream)


def test_where_the_journal_reads_standard_error_it_gets_the_entry_instead(
    tmp_path: Path, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.send, "__defaults__", (str(tmp_path / "socket"),))
    with connected(tmp_path / "stderr", monkeypatch) as stream:
        journal.write(stream, "lost", journal.WARNING, {"EDGECLIP_SOURCE": "yard"})
    assert b"MESSAGE=lost\nPRIORITY=4\n" in listening.recv(1000)
    assert (tmp_path / "stderr").read_text() == ""


def test_without_its_socket_lines_carry_their_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal.send, "__defaults__", (str(tmp_path / "none"),))
    with connected(tmp_path / "stderr", monkeypatch) as stream:
        journal.write(stream, "error: a\n  fix: b", journal.ERROR)
    assert (tmp_path / "stderr").read_text() == "<3>error: a\n<3>  fix: b\n"


def test_a_notice_is_a_line_with_more_to_it() -> None:
    notice = journal.Notice("lost", journal.WARNING, EDGECLIP_SOURCE="yard")
    assert (notice, notice.priority, notice.fields) == ("lost", 4, {"EDGECLIP_SOURCE": "yard"})
