from __future__ import annotations

import threading
import time

from edgeclip.errors import ConfigError
from edgeclip.runtime.reload import Reload


def looked_until(reload: Reload[str], condition: threading.Event) -> None:
    end_s = time.monotonic() + 10
    while not condition.wait(0.01):
        assert time.monotonic() < end_s
        reload.look()


def test_an_accepted_configuration_is_handed_out_once() -> None:
    told: list[str] = []
    reload = Reload(lambda: "new", lambda error: None, lambda *lines: told.extend(lines))
    assert not reload.look()
    assert told == []
    reload.ask()
    end_s = time.monotonic() + 10
    while not reload.look():
        assert time.monotonic() < end_s
    assert reload.take() == "new"
    assert reload.take() is None
    assert told[0] == "RELOADING=1"
    assert told[1].startswith("MONOTONIC_USEC=")
    assert "READY=1" not in told  # the new run says so, with its first decision


def test_a_refused_one_changes_nothing_and_says_why() -> None:
    told: list[str] = []
    refused: list[Exception] = []
    done = threading.Event()

    def accept() -> str:
        raise ConfigError("edgeclip.yaml:3: no")

    def tell(*lines: str) -> None:
        told.extend(lines)
        if "READY=1" in lines:
            done.set()

    reload = Reload(accept, refused.append, tell)
    reload.ask()
    looked_until(reload, done)
    assert [str(error) for error in refused] == ["edgeclip.yaml:3: no"]
    assert not reload.look()
    assert reload.take() is None


def test_the_frame_loop_goes_on_while_a_configuration_is_tried() -> None:
    gate, tried = threading.Event(), threading.Event()

    def accept() -> str:
        gate.wait(10)
        tried.set()
        return "new"

    reload = Reload(accept, lambda error: None, lambda *lines: None)
    reload.ask()
    began_s = time.monotonic()
    assert not reload.look()
    assert not reload.look()
    assert time.monotonic() - began_s < 1
    gate.set()
    looked_until(reload, tried)
