from __future__ import annotations

import json
import uuid
from pathlib import Path

import msgspec
import pytest
from schemas import cleaned

from edgeclip.events.event import ENDED, decode, encode, event_schema, new_id
from events.made import event

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_the_documented_schema_is_the_structs() -> None:
    assert cleaned((DOCS / "event.schema.json").read_text()) == cleaned(json.dumps(event_schema()))


def test_the_documented_example_is_a_message() -> None:
    text = (DOCS / "events.md").read_text()
    example = text[text.index("```json") + 7 :]
    shown = decode(example[: example.index("```")].encode())
    assert shown.id == f"{shown.data.event}-started"


def test_a_message_has_what_cloudevents_asks_for() -> None:
    written = json.loads(encode(event()))
    assert {"specversion", "id", "source", "type"} <= written.keys()
    assert written["specversion"] == "1.0"
    assert written["datacontenttype"] == "application/json"


def test_both_messages_of_an_event_share_its_id_and_have_their_own() -> None:
    begun, ended = event("x"), event("x", ENDED)
    assert begun.data.event == ended.data.event
    assert begun.id != ended.id


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(encode(event()).replace(b'"1.0"', b'"0.3"'))


def test_ids_are_ordered_uuids_of_version_7() -> None:
    ids = [new_id() for _ in range(200)]
    assert len(set(ids)) == 200
    assert all(uuid.UUID(name).version == 7 and uuid.UUID(name).variant == uuid.RFC_4122 for name in ids)
    assert [name[:13] for name in ids] == sorted(name[:13] for name in ids)
