"""A real mosquitto on a free port of loopback, and a subscriber that keeps what comes."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

INSTALL = "mosquitto is missing: apt-get install mosquitto"


def binary() -> str:
    """Its path. Skips the test where there is none, and fails it in CI."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(INSTALL)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Mosquitto:
    """settings: lines of its configuration, besides the listener."""

    def __init__(self, folder: Path, settings: str = "allow_anonymous true\n") -> None:
        self.port = free_port()
        self._binary = binary()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"user {getpass.getuser()}\nlistener {self.port} 127.0.0.1\n{settings}")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([self._binary, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 20
        while time.monotonic() < deadline_s:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError("mosquitto does not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


class Subscriber:
    """messages: (topic, payload) in the order of arrival. prepare: what is done to the client first, TLS for one."""

    def __init__(self, port: int, topic: str = "#", prepare: Any = lambda client: None) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        prepare(self._client)
        self._client.on_connect = lambda client, *rest: client.subscribe(topic, 1)
        self._client.on_subscribe = lambda *rest: self._ready.set()
        self._client.on_message = lambda client, user, message: self.messages.append((message.topic, message.payload))
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def __enter__(self) -> Subscriber:
        assert self._ready.wait(20)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def on(self, topic: str) -> list[bytes]:
        return [payload for name, payload in list(self.messages) if name == topic]
