"""An outage of a source: how soon it is tried again, and how often it is spoken of."""

from __future__ import annotations

import random

FIRST_DELAY_S = 0.5
SHORT_DELAY_S = 0.6  # longest wait in the first half minute, so that a camera's return is seen within three seconds
LONGEST_DELAY_S = 30.0
PROOF_S = 2.0  # of frames: the source works, and its next loss is retried like a first one
STEADY_S = 10.0  # of frames: the trouble is over, and the next loss is news
EVENT_INTERVAL_S, LONGEST_SILENCE_S = 1.0, 3600.0  # between two lines about the same trouble
REMIND_S = 10.0  # between the first two that say the same
MAX_STUCK = 4  # reads that hang in a driver before further ones become rare
STUCK_PAUSE_S, STUCK_FACTOR = 600.0, 6.0


class Outage:
    """The losses of one source. Times are time.monotonic().

    Two clocks, for a camera that comes and goes: frames for PROOF_S end the growth of the pauses, so that it is soon
    back each time; one that accepts and then drops at once gives no such proof, and is tried ever less often. Only
    STEADY_S of frames end the trouble, so that the journal is not filled by its coming and going.
    """

    def __init__(self) -> None:
        self._gone_at_s: float | None = None
        self._trouble_at_s: float | None = None
        self._attempt = 0

    def lost(self, now_s: float, gave_s: float) -> float:
        """A connection failed that had given frames for gave_s, 0.0 for none. Returns the seconds to wait."""
        if self._gone_at_s is None or gave_s >= PROOF_S:
            self._gone_at_s, self._attempt = now_s, 0
        if self._trouble_at_s is None or gave_s >= STEADY_S:
            self._trouble_at_s = now_s
        delay_s = retry_delay_s(self._attempt, now_s - self._gone_at_s)
        self._attempt += 1
        return delay_s

    def silence_s(self, now_s: float) -> float:
        """Between two lines of one kind about it."""
        return silence_s(now_s - self._trouble_at_s if self._trouble_at_s is not None else 0.0)


def silence_s(trouble_s: float) -> float:
    """Seconds between two lines about trouble that has lasted trouble_s and goes on changing: one at first, then a
    twentieth of it, to an hour, so that a camera that comes and goes for months does not fill the journal."""
    return min(max(EVENT_INTERVAL_S, trouble_s / 20.0), LONGEST_SILENCE_S)


def reminder_s(gone_s: float) -> float:
    """Seconds between two lines that say the same, of a source that has been gone for gone_s: after ten, twenty, forty
    and so on, then every hour."""
    return min(max(REMIND_S, gone_s / 2.0), LONGEST_SILENCE_S)


def retry_delay_s(attempt: int, gone_s: float) -> float:
    """Seconds to wait before retry number `attempt` (from 0) of a source that has been gone for gone_s.

    From 0.5 s to 1.2 s in the first minute, then a fiftieth of the time so far, so exponentially, to 30 s;
    +-25 % of jitter keeps many devices from calling in step.
    """
    ceiling_s = max(SHORT_DELAY_S, gone_s / 50.0)
    delay_s = min(FIRST_DELAY_S * 2.0 ** min(attempt, 16), ceiling_s)
    return min(delay_s * random.uniform(0.75, 1.25), LONGEST_DELAY_S)


def stuck_pause_s(stuck: int) -> float:
    """Seconds between two tries of a source while `stuck` earlier reads hang in its driver.

    None up to MAX_STUCK; then ten minutes, and six times as long with each further one: another would probably hang as
    well and each keeps its thread and memory, but a camera that was mended is not lost for good. Eight are reached
    after two days, a ninth after eleven.
    """
    return 0.0 if stuck < MAX_STUCK else STUCK_PAUSE_S * STUCK_FACTOR ** min(stuck - MAX_STUCK, 8)
