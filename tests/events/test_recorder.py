from __future__ import annotations

from dataclasses import replace

from edgeclip.events.event import ENDED, INTERRUPTED, STARTED, Event
from edgeclip.events.recorder import NoPictures, Recorder, interrupted
from events.made import ORIGIN, change, decision, event, frame


def recorded() -> tuple[Recorder, list[Event]]:
    put: list[Event] = []
    return Recorder(put.append, ORIGIN, NoPictures()), put


def test_a_watch_that_begins_and_ends_is_two_messages_of_one_event() -> None:
    recorder, put = recorded()
    begin, end = frame(3), frame(9, 2_000_000_000)
    recorder.write(decision(frame(0)), frame(0))
    recorder.write(decision(begin, change(True, begin), on=True), begin)
    assert recorder.holding() == [("door open", put[0].data.event)]
    recorder.write(decision(end, change(False, end)), end)
    begun, ended = put
    assert (begun.type, ended.type) == (STARTED, ENDED)
    assert begun.data.event == ended.data.event
    assert begun.data.started == ended.data.started
    assert begun.data.ended is None
    assert ended.data.ended == ended.time
    assert (ended.data.reason, ended.data.peak, ended.data.frame) == ("left", 0.95, 9)
    assert begun.subject == "door open"
    assert begun.source == "/edgeclip/board/demo"
    assert recorder.holding() == []


def test_the_same_watch_on_two_cameras_is_two_events() -> None:
    recorder, put = recorded()
    for source in ("front", "back"):
        one = frame(0, source=source)
        recorder.write(decision(one, change(True, one), on=True), one)
    assert put[0].data.event != put[1].data.event
    assert {message.data.camera for message in put} == {"front", "back"}


def test_a_source_that_ends_takes_its_events_with_it() -> None:
    recorder, put = recorded()
    one = frame(0)
    recorder.write(decision(one, change(True, one), on=True), one)
    recorder.write(decision(one, change(False, one, reason="source ended"), closing=True), one)
    assert put[1].data.reason == "source ended"


def test_it_knows_the_watches_in_force() -> None:
    recorder, _ = recorded()
    recorder.write(decision(frame()), frame())
    assert recorder.watches == ("door open",)


def test_an_event_that_was_cut_off_ends_as_interrupted() -> None:
    begun = event("x")
    ended = interrupted(begun, 1_785_585_600_123_456_789)
    assert ended.id == "x-ended"
    assert (ended.type, ended.data.reason, ended.data.started) == (ENDED, INTERRUPTED, begun.data.started)


def test_a_watch_that_is_renamed_while_nothing_happens_is_known_by_its_new_name() -> None:
    recorder, _ = recorded()
    recorder.write(decision(frame()), frame())
    one = decision(frame(1))
    recorder.write(replace(one, watches=(replace(one.watches[0], name="gate open"),)), frame(1))
    assert recorder.watches == ("gate open",)
