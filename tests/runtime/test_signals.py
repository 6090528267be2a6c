from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from edgeclip.runtime.signals import DrainError, ReloadSignal, StopSignals


def test_a_stop_is_only_noted() -> None:
    with StopSignals() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # the second one acts


def hang(timeout_s: float) -> None:
    """As a run does whose sink does not return after a stop."""
    with StopSignals(drain_timeout_s=timeout_s) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        threading.Event().wait(30)


def test_what_hangs_after_the_deadline_is_left() -> None:
    began_s = time.monotonic()
    with pytest.raises(DrainError, match=r"after 0\.2 s"):
        hang(0.2)
    assert time.monotonic() - began_s < 5
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_no_deadline_outlives_a_stop_in_time() -> None:
    with StopSignals(drain_timeout_s=0.1):
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.3)


def test_a_hang_up_is_noted_while_it_may_be() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with ReloadSignal() as asked:
        assert not asked.take()
        os.kill(os.getpid(), signal.SIGHUP)
        assert asked.take()
        assert not asked.take()
    assert signal.getsignal(signal.SIGHUP) is before
