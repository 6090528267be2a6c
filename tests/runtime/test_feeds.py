"""Sources through several runs: what stays open, what is opened again, and what each is called."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest
from clips import write_clip

from edgeclip.errors import SourceError
from edgeclip.runtime.feeds import Feeds, Wanted
from edgeclip.runtime.supervisor import Supervisor


def wanted(uri: str = "demo", fps: float | None = 20.0) -> Wanted:
    return Wanted(uri, fps, False, 5.0, 2.0, False)


def run(feeds: Feeds, some: list[Wanted], frames: int = 3) -> tuple[list[Supervisor], list[int]]:
    """One run, and the indices of the first source's frames."""
    supervised = feeds.supervised(some)
    feeds.open()
    seen: list[int] = []

    def take() -> None:
        seen.extend(frame.index for frame in itertools.islice(supervised[0].frames(), frames))

    thread = threading.Thread(target=take)
    thread.start()
    thread.join(10)
    for feed in supervised:
        feed.stop()
    feeds.rest()
    return supervised, seen


def test_a_live_source_stays_open_through_a_reload_and_goes_on() -> None:
    with Feeds(lambda text: None) as feeds:
        (first,), before = run(feeds, [wanted()])
        (second,), after = run(feeds, [wanted()])
        assert second is first
        assert first.state == "streaming"
        assert len(after) == 3
        assert after[0] > before[-1] > 0
    assert first.state == "ended"


def test_one_that_is_read_otherwise_is_opened_again_and_one_not_asked_for_is_closed() -> None:
    with Feeds(lambda text: None) as feeds:
        (first,), _ = run(feeds, [wanted()])
        (second,), after = run(feeds, [wanted(fps=10.0)])
        assert second is not first
        assert first.state == "ended"
        assert after[0] == 0


def test_a_film_begins_anew(tmp_path: Path) -> None:
    clip = wanted(str(write_clip(tmp_path / "clip.mp4", frames=12)), None)
    with Feeds(lambda text: None) as feeds:
        assert run(feeds, [clip])[1] == [0, 1, 2]
        assert run(feeds, [clip])[1] == [0, 1, 2]


def test_sources_whose_names_hide_the_difference_are_numbered() -> None:
    some = [wanted(f"rtsp://nvr/live?channel={number}") for number in (1, 2)]
    with Feeds(lambda text: None) as feeds:
        names = [feed.source.name for feed in feeds.supervised([*some, wanted()])]
    assert names == ["rtsp://nvr/live?***", "rtsp://nvr/live?*** #2", "demo"]


def test_what_cannot_be_opened_leaves_the_others_for_the_run_that_is_gone_back_to(tmp_path: Path) -> None:
    with Feeds(lambda text: None) as feeds:
        (first,), _ = run(feeds, [wanted()])
        feeds.supervised([wanted(), wanted("/dev/video987")])
        with pytest.raises(SourceError):
            feeds.open()
        feeds.rest()
        (again,), _ = run(feeds, [wanted()])
        assert again is first
