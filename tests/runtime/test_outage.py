from __future__ import annotations

import pytest

from edgeclip.runtime.outage import Outage, reminder_s, retry_delay_s, silence_s, stuck_pause_s


def waits(gave_s: float, hours: float, away_s: float = 0.0) -> list[float]:
    """Of a camera that gives frames for gave_s when it is reached, and is not reached for away_s after each loss."""
    outage, now_s, pauses = Outage(), 1000.0, []
    while now_s < 1000.0 + hours * 3600.0:
        now_s += gave_s
        lost_s, delay_s = now_s, outage.lost(now_s, gave_s)
        while now_s + delay_s < lost_s + away_s:
            now_s += delay_s
            delay_s = outage.lost(now_s, 0.0)
        now_s += delay_s
        pauses.append(now_s - lost_s)
    return pauses


@pytest.mark.parametrize("gave_s", [2.0, 5.0, 9.0, 60.0])
def test_a_camera_that_gives_frames_between_its_losses_is_soon_back_for_hours(gave_s: float) -> None:
    assert max(waits(gave_s, 6)) < 1.0
    assert max(waits(gave_s, 6, away_s=20.0)) < 22.0


@pytest.mark.parametrize("gave_s", [0.0, 0.04, 1.0])
def test_one_that_accepts_and_drops_at_once_is_not_hammered(gave_s: float) -> None:
    pauses = waits(gave_s, 6)
    assert max(pauses[:20]) <= 1.5  # in the first minute, nobody knows
    assert min(pauses[-20:]) >= 22.0
    assert len(pauses) < 6 * 3600 / 20


def test_coming_and_going_is_the_same_trouble_and_told_ever_less_often() -> None:
    outage = Outage()
    for now_s in range(0, 3600, 6):
        outage.lost(float(now_s), 5.0)
    assert outage.silence_s(3600.0) == 180.0
    outage.lost(3700.0, 10.0)  # it was steady, and this is news
    assert outage.silence_s(3700.0) == 1.0


def test_trouble_that_changes_is_told_of_every_second_and_for_a_month_a_few_hundred_times() -> None:
    lines, outage_s = 0, 0.0
    while outage_s < 30 * 86_400.0:
        lines, outage_s = lines + 1, outage_s + silence_s(outage_s)
    assert silence_s(5.0) == 1.0
    assert 200 < lines < 1000


def test_a_camera_that_stays_dead_is_told_of_once_and_then_ever_more_rarely() -> None:
    told: list[int] = []
    for gone_s in range(30 * 86_400):
        if not told or gone_s - told[-1] >= reminder_s(gone_s):
            told.append(gone_s)
    assert told[:6] == [0, 10, 20, 40, 80, 160]
    assert told[-1] - told[-2] == 3600


def test_delays_are_short_for_a_minute_and_then_grow_to_half_a_minute() -> None:
    first = [retry_delay_s(0, 0.0) for _ in range(200)]
    assert 0.3 < min(first) < max(first) < 0.7
    assert len(set(first)) > 100  # jitter
    assert all(retry_delay_s(attempt, gone_s) <= 1.5 for attempt in range(100) for gone_s in (1.0, 30.0, 60.0))
    assert retry_delay_s(200, 300.0) > 3
    assert retry_delay_s(5000, 1e6) >= 22
    assert max(retry_delay_s(5000, 1e6) for _ in range(100)) <= 30


def test_reads_that_hang_make_further_ones_rare_and_never_end_them() -> None:
    assert [stuck_pause_s(stuck) for stuck in range(5)] == [0.0, 0.0, 0.0, 0.0, 600.0]
    days, stuck = 0.0, 4
    while days < 60.0:
        days, stuck = days + stuck_pause_s(stuck) / 86_400.0, stuck + 1
    assert stuck <= 10
    assert stuck_pause_s(10_000) < 1e10
