from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeclip.runtime.presence import Presence, Rule
from edgeclip.types import Change

S_NS = 1_000_000_000
RULES = st.builds(
    Rule,
    enter=st.sampled_from([0.6, 0.8]),
    leave=st.sampled_from([0.2, 0.5]),
    dwell_s=st.sampled_from([0.0, 0.5, 2.0]),
    agree=st.sampled_from([0.4, 0.75, 1.0]),
    cooldown_s=st.sampled_from([0.0, 1.0, 5.0]),
)
FRAMES = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.4, 0.7, 0.9]), st.sampled_from([0.0, 0.1, 0.4, 3.0])))


def played(rule: Rule, frames: list[tuple[float, float]]) -> list[tuple[int, float, Change | None]]:
    """(clock_ns, probability, change) of each frame; frames are (probability, seconds since the one before)."""
    presence, clock_ns, seen = Presence("door", rule), 0, []
    for probability, step_s in frames:
        clock_ns += round(step_s * S_NS)
        seen.append((clock_ns, probability, presence.update(probability, clock_ns, clock_ns, clock_ns + 7)))
    return seen


def changes(rule: Rule, *frames: tuple[float, float]) -> list[bool | None]:
    return [None if change is None else change.on for _, _, change in played(rule, list(frames))]


@given(RULES, FRAMES)
def test_begins_and_ends_alternate_and_thresholds_are_kept(rule: Rule, frames: list[tuple[float, float]]) -> None:
    on = False
    for _, probability, change in played(rule, frames):
        if change is not None:
            assert change.on is not on
            on = change.on
            assert probability >= rule.enter if on else probability < rule.leave
            assert change.peak >= rule.enter
            assert change.began_wall_ns == change.began_ns + 7
        elif on:
            assert probability >= rule.leave


@given(RULES, FRAMES)
def test_dwell_votes_and_cool_down_are_honoured(rule: Rule, frames: list[tuple[float, float]]) -> None:
    seen = played(rule, frames)
    ended_ns = None
    for number, (clock_ns, _, change) in enumerate(seen):
        if change is None:
            continue
        if not change.on:
            ended_ns = clock_ns
            continue
        start = max(
            index for index in range(number + 1) if clock_ns - seen[index][0] >= rule.dwell_s * S_NS
        )  # raises where the source is not that old
        window = [probability >= rule.enter for _, probability, _ in seen[start : number + 1]]
        assert sum(window) >= rule.agree * len(window) - 1e-9
        assert seen[start][0] <= change.began_ns <= clock_ns
        if ended_ns is not None:
            assert seen[start][0] >= ended_ns + rule.cooldown_s * S_NS


def test_hysteresis_keeps_it_on_between_the_thresholds() -> None:
    assert changes(Rule(0.8, 0.4), (0.9, 0), (0.5, 1), (0.5, 1), (0.3, 1)) == [True, None, None, False]


def test_one_doubtful_frame_starts_the_dwell_again_unless_votes_allow_it() -> None:
    frames = [(0.9, 0.0), (0.9, 1.0), (0.1, 1.0), (0.9, 1.0), (0.9, 1.0), (0.9, 1.0)]
    assert changes(Rule(0.8, 0.4, dwell_s=2.0), *frames) == [None, None, None, None, None, True]
    assert changes(Rule(0.8, 0.4, dwell_s=2.0, agree=0.6), *frames) == [None, None, None, True, None, None]


def test_what_holds_ends_with_a_reason_once() -> None:
    presence = Presence("door", Rule(0.8, 0.4))
    assert presence.end("source ended") is None
    presence.update(0.9, 5, 5, 6)
    presence.update(0.95, 7, 7, 8)
    change = presence.end("source ended")
    assert change == Change("door", False, 5, 6, 0.95, 0.95, 0.8, "source ended")
    assert presence.end("source ended") is None


def test_a_clock_that_goes_backwards_forgets_votes_and_rest() -> None:
    presence = Presence("door", Rule(0.8, 0.4, dwell_s=1.0, cooldown_s=100.0))
    for clock_s in (10, 11):
        presence.update(0.9, clock_s * S_NS, 0, 0)
    presence.update(0.1, 12 * S_NS, 0, 0)
    assert not presence.on
    assert presence.update(0.9, 1 * S_NS, 0, 0) is None
    began = presence.update(0.9, 2 * S_NS, 0, 0)
    assert began is not None
    assert began.on


@pytest.mark.parametrize("frames", [1, 3])
def test_it_begins_with_the_first_frame_that_counted(frames: int) -> None:
    presence = Presence("door", Rule(0.8, 0.4, dwell_s=float(frames)))
    found = [presence.update(0.9, second * S_NS, second, 100 + second) for second in range(frames + 1)]
    assert found[:-1] == [None] * frames
    assert found[-1] is not None
    assert (found[-1].began_ns, found[-1].began_wall_ns) == (0, 100)
