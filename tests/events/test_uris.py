from __future__ import annotations

import pytest

from edgeclip.errors import ConfigError, UsageError
from edgeclip.events.deliveries import DELIVERIES, make_delivery
from edgeclip.events.uris import split_sinks
from edgeclip.runtime.sinks import SINKS
from events.made import setting

URIS = {
    "command": "command:true",
    "http": "http://host/path",
    "https": "https://host/path",
    "jsonl": "jsonl:/tmp/events.jsonl",
    "mqtt": "mqtt://host/prefix",
    "mqtts": "mqtts://host/prefix",
    "webhook+http": "webhook+http://host/path",
    "webhook+https": "webhook+https://host/path",
}


def test_every_scheme_is_covered_here() -> None:
    assert URIS.keys() == DELIVERIES.keys()


@pytest.mark.parametrize("scheme", DELIVERIES)
def test_each_makes_a_delivery_with_a_name_that_stays(scheme: str) -> None:
    names = {make_delivery(URIS[scheme], setting()).name for _ in range(2)}
    assert len(names) == 1


def test_jsonl_takes_events_where_there_are_watches() -> None:
    uris = ["table:", "jsonl:x", "mqtt://host/x", "decisions:y"]
    assert split_sinks(uris, True) == (["table:", "decisions:y"], ["jsonl:x", "mqtt://host/x"])
    assert split_sinks(["jsonl:x"], False) == (["jsonl:x"], [])


def test_events_without_watches_are_a_mistake() -> None:
    with pytest.raises(UsageError, match="no watches"):
        split_sinks(["mqtt://host/x"], False)


@pytest.mark.parametrize("uri", ["mqqt://user:secret@host/x", "file.jsonl", ""])
def test_an_unknown_scheme_lists_those_there_are_and_no_password(uri: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_sinks([uri], True)
    assert all(scheme in caught.value.hint for scheme in (*SINKS, *DELIVERIES))
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("mqtt://", "host is missing"),
        ("mqtt://host:port/x", "Port could not be cast"),
        ("mqtt://host/x?versoin=5", "no such option: versoin"),
        ("mqtt://host/x?version=4", "no such version: 4"),
        ("mqtt://host/x?timeout_s=soon", "no number above 0"),
        ("mqtt://host/%23", "holds [+] or #"),
        ("mqtt://:secret@host/x", "no user"),
        ("https://", "host is missing"),
        ("jsonl:", "path is missing"),
        ("jsonl:x?keep=many", "options are wrong"),
        ("command:", "program is missing"),
        ("command:'open", "No closing quotation"),
    ],
)
def test_what_is_wrong_with_a_uri_is_said(uri: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make_delivery(uri, setting())
    assert "secret" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    "uri",
    ["mqtt://user@host/x?password_file=/missing", "https://host/x?key_file=/missing", "mqtts://host/x?ca=/missing"],
)
def test_a_file_that_is_missing_is_named(uri: str) -> None:
    with pytest.raises(ConfigError):
        make_delivery(uri, setting())


@pytest.mark.parametrize(
    "uri", ["mqtt://user:sec%2Fret@host/x", "https://user:sec%2Fret@host/hook/sec/ret?token=sec/ret"]
)
def test_names_hold_nothing_secret(uri: str) -> None:
    delivery = make_delivery(uri, setting())
    assert "sec" not in delivery.name


def test_command_needs_a_program_that_is_there() -> None:
    with pytest.raises(ConfigError, match="no-such-program"):
        make_delivery("command:no-such-program --x", setting())
