"""Sources through several runs: what stays open, what is opened again, and what each is called."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import pytest
from clips import write_clip

from edgeclip.errors import SourceError
from edgeclip.runtime.feeds import Feeds, Wanted
from edgeclip.runtime.sources.demo import Demo
from edgeclip.runtime.supervisor import Supervisor
from edgeclip.types import Pixels


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


def test_where_no_source_gives_frames_and_one_is_stuck_in_its_driver_a_new_process_is_asked_for() -> None:
    with Feeds(lambda text: None) as feeds:
        door, yard = feeds.supervised([wanted("rtsp://door/1"), wanted("rtsp://yard/1")])
        door.state, door.stuck_at_s = "lost", time.monotonic() - 301.0
        yard.state = "streaming"
        feeds.check_help()  # the yard counts for more
        yard.state = "lost"
        with pytest.raises(SourceError, match="rtsp://door/1: 0 reads hang in the driver") as failure:
            feeds.check_help()
        assert failure.value.exit_code == 69
        door.stuck_at_s = time.monotonic() - 60.0
        feeds.check_help()


def test_a_source_has_the_time_that_its_own_timeouts_ask_for() -> None:
    with Feeds(lambda text: None) as feeds:
        slow, usual = feeds.supervised(
            [Wanted("rtsp://a", None, False, 40.0, 20.0, True), Wanted("rtsp://b", None, False, 10.0, 2.0, True)]
        )
    assert slow._connect_timeout_s > 40.0
    assert slow._stall_timeout_s > 2 * 20.0
    assert (usual._connect_timeout_s, usual._stall_timeout_s) == (15.0, 4.25)


def test_cameras_that_hang_in_their_drivers_hold_up_an_end_together_and_not_one_after_the_other() -> None:
    release = threading.Event()

    class Hangs(Demo):
        def read(self) -> Pixels:
            release.wait()
            return super().read()

    with Feeds(lambda text: None) as feeds:
        for number in range(12):
            feeds._kept[wanted(), number] = Supervisor(Hangs).__enter__()
        began_s = time.monotonic()
    took_s = time.monotonic() - began_s
    release.set()
    assert 0.9 < took_s < 8.0  # one second for all
