"""Carries messages from the outbox to one sink, in order, on a thread of its own; the one owner of its retries."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
import time
from collections.abc import Callable

from edgeclip.events.delivery import Delivery, Message, Rejected, Unreachable
from edgeclip.events.outbox import Outbox

BATCH = 32
TEND_S = 1.0
FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 60.0
REMIND_S = 600.0


class Courier:
    """state: "connecting", "connected" or "away". reconnects: how often it came back. delivered, dead: messages.

    A message counts as delivered when the sink has said so and the outbox has noted it; a crash between the two
    delivers it a second time, with the same id.
    """

    def __init__(self, delivery: Delivery, outbox: Outbox, notify: Callable[[str], None]) -> None:
        self.name = delivery.name
        self.state = "connecting"
        self.reconnects = self.delivered = self.dead = 0
        self.last_error = ""
        self._delivery, self._outbox, self._notify = delivery, outbox, notify
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._noted: list[int] = []  # delivered, and not to be marked in the outbox: its disk is full
        self._opened = False
        self._attempt = 0
        self._told_s: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"sink {self.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        """Deliver what is there, and end at the first failure."""
        self._stopping.set()
        self._wake.set()

    def join(self, within_s: float) -> None:
        self._thread.join(max(within_s, 0.0))

    def _run(self) -> None:
        while True:
            try:
                if not self._opened:
                    self._delivery.open()
                    self._opened = True
                while self._carry():
                    pass
                if not self._stopping.is_set():
                    self._delivery.tend()
                self._note_well()
                if self._stopping.is_set():
                    break
            except Exception as error:  # whatever it is: what waits is tried again, and somebody is told
                self._note_away(str(error) or type(error).__name__)
                if self._stopping.is_set():
                    break
                self._stopping.wait(delay_s(self._attempt))
                self._attempt += 1
                continue
            self._wake.wait(TEND_S)
            self._wake.clear()
        self._close()

    def _close(self) -> None:
        self._opened = False
        with contextlib.suppress(Exception):  # it is gone, or about to be
            self._delivery.close()

    def _carry(self) -> bool:
        """One batch. False where nothing is left."""
        messages = self._outbox.pending(self.name, BATCH, after=self._noted[-1] if self._noted else 0)
        if not messages and not self._noted:
            return False
        done: list[Message] = []
        try:
            self._delivery.deliver(messages, done.append)
        except Rejected as error:
            self._settle(done)
            self._outbox.mark(self.name, [error.rejected.sequence], "dead", error.message)
            self.dead += 1
            self._notify(f"{self.name} refused the message {error.rejected.id} for good: {error.message}")
            return True
        except Unreachable as error:
            self._settle(done)
            if done:  # it takes some: no reason for longer pauses
                self._attempt = 0
            with contextlib.suppress(sqlite3.Error):  # a count of attempts may be wrong, a delivery not
                self._outbox.mark(
                    self.name, [one.sequence for one in messages[len(done) :][:1]], "pending", error.message
                )
            raise
        return self._settle(done) or bool(messages)

    def _settle(self, done: list[Message]) -> bool:
        """Mark as delivered; where the disk is full, remember to do it later, and go on. False where it is."""
        if done:
            self._note_connected()
        self.delivered += len(done)
        self._noted += [message.sequence for message in done]
        try:
            self._outbox.mark(self.name, self._noted, "delivered")
        except sqlite3.Error as error:
            self.last_error = str(error)
            return False
        self._noted.clear()
        return True

    def _note_connected(self) -> None:
        """It has taken a message, or it was idle and is well: that it could be opened may mean nothing."""
        if self.state == "away":
            self.reconnects += 1
        self.state = "connected"

    def _note_well(self) -> None:
        """Nothing is left for it. One that takes a message now and then is not said to be back each time."""
        self._note_connected()
        self._attempt = 0
        if self._told_s is not None:
            self._notify(f"{self.name} is back")
        self._told_s = None

    def _note_away(self, error: str) -> None:
        self._close()
        self.state, self.last_error = "away", error
        now_s = time.monotonic()
        if self._stopping.is_set():
            return
        if self._told_s is None or now_s - self._told_s >= REMIND_S:
            self._told_s = now_s
            self._notify(f"{self.name}: {error}; events wait in the outbox, tried again")


def delay_s(attempt: int) -> float:
    """Before retry number `attempt` (from 0): doubled each time up to a minute, +-25 % so that devices do not call in
    step."""
    return min(FIRST_DELAY_S * 2.0 ** min(attempt, 16), LONGEST_DELAY_S) * random.uniform(0.75, 1.25)
