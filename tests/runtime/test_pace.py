from __future__ import annotations

import pytest

from edgeclip.runtime.pace import KEPT, Ages, Rate, Summary

SECOND_NS = 1_000_000_000


def test_rate_is_unknown_until_two_then_right_at_once() -> None:
    rate = Rate()
    assert rate.tick(5 * SECOND_NS) == 0.0
    assert rate.tick(5 * SECOND_NS + SECOND_NS // 20) == pytest.approx(20)
    assert rate.tick(5 * SECOND_NS + SECOND_NS // 10) == pytest.approx(20)


def test_rate_follows_a_change_within_seconds_and_ignores_one_hiccup() -> None:
    rate, now_ns = Rate(), 0
    for _ in range(100):
        now_ns += SECOND_NS // 20
        fps = rate.tick(now_ns)
    now_ns += SECOND_NS // 5
    assert 12 < rate.tick(now_ns) < 20  # one interval of 200 ms among those of 50 ms
    for _ in range(25):
        now_ns += SECOND_NS // 5
        fps = rate.tick(now_ns)
    assert fps == pytest.approx(5, rel=0.05)


def test_percentiles_are_of_the_newest_ages() -> None:
    ages = Ages()
    assert ages.percentile_ms(50) == 0.0
    for age_ms in range(1, 101):
        ages.add(age_ms * 1_000_000)
    assert ages.percentile_ms(50) == pytest.approx(50.5)
    assert ages.percentile_ms(95) == pytest.approx(95.05)
    for _ in range(KEPT):
        ages.add(7_000_000)
    assert ages.percentile_ms(50) == ages.percentile_ms(99) == 7.0


def test_summary_reads_as_a_line() -> None:
    assert str(Summary(40, 2.0, 19.5, 3, 1, 4, 12.4, 20.6)) == (
        "40 frames in 2.0 s, 19.5 fps, 3 dropped, frame age p50 12 ms, p95 21 ms, label changed 4 times, 1 reconnect"
    )
    assert str(Summary(1, 0.0, 0.0, 0, 0, 0, 12.4, 12.4)) == (
        "1 frame, 0 dropped, frame age p50 12 ms, p95 12 ms, label changed 0 times"
    )
    assert str(Summary(0, 0.0, 0.0, 0, 0, 0, 0.0, 0.0)) == "no frame came, 0 dropped"
