"""Events to an MQTT broker, QoS 1; its PUBACK is delivery. MQTT 3.1.1, and 5 with ?version=5.

    PREFIX/events                     every message, as it is; not retained
    PREFIX/watch/WATCH/state          ON or OFF, retained
    PREFIX/watch/WATCH/attributes     the data of the watch's last message, retained
    PREFIX/availability               online or offline, retained; offline is the last will
    homeassistant/device/ID/config    discovery, retained

`mqtt[s]://[USER@]HOST[:PORT]/PREFIX?version=5&password_file=FILE&ca=FILE&cert=FILE&key=FILE&discovery=homeassistant`;
the password may also be in $EDGECLIP_MQTT_PASSWORD. `discovery=` (nothing) turns discovery off.

The client is made anew for every connection: reconnecting is the courier's. publish() is called on the courier's
thread, and what waits for the PUBACK is the message's own lock, never one of ours.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Sequence
from urllib.parse import unquote

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from edgeclip.errors import ConfigError, UsageError, reason_of
from edgeclip.events.deliveries import Setting
from edgeclip.events.deliveries.address import Address, parse_address, secret
from edgeclip.events.deliveries.homeassistant import discovery, slug
from edgeclip.events.delivery import Message, Unreachable
from edgeclip.events.event import STARTED, Event, encode

OPTIONS = ("version", "password_file", "ca", "cert", "key", "discovery", "timeout_s")
PASSWORD = "EDGECLIP_MQTT_PASSWORD"
TIMEOUT_S = 10.0
KEEPALIVE_S = 30
VERSIONS = {"3.1.1": paho.MQTTv311, "5": paho.MQTTv5}


class Mqtt:
    def __init__(self, uri: str, setting: Setting) -> None:
        address = parse_address(uri, OPTIONS)
        version = address.options.get("version", "3.1.1")
        if version not in VERSIONS:
            raise UsageError(f"--sink {address.place}: no such version: {version}", "versions: 3.1.1, 5")
        self._prefix = unquote(address.path.strip("/")) or "edgeclip"
        if any(character in self._prefix for character in "+#\0"):
            raise UsageError(f"--sink {address.place}: the topic {self._prefix} holds + or #", "choose another prefix")
        self._password = address.password or secret(
            "password_file", address.options.get("password_file"), PASSWORD, setting.environment(PASSWORD)
        )
        if self._password and not address.user:
            raise UsageError(f"--sink {address.place}: a password, and no user", f"write {address.scheme}://USER@...")
        self.name = f"{address.place}/{self._prefix}"
        self._address, self._version, self._setting = address, VERSIONS[version], setting
        self._tls = _tls(address) if address.scheme == "mqtts" else None
        self._port = address.port or (8883 if self._tls else 1883)
        self._timeout_s = address.number("timeout_s", TIMEOUT_S)
        self._discovery = address.options.get("discovery", "homeassistant").strip("/")
        self._client: paho.Client | None = None
        self._answers: list[ReasonCode] = []  # to the present connection
        self._refusals: dict[int, str] = {}  # by the id of its packet; MQTT 5 alone says so
        self._holding: dict[str, set[str]] = {}  # watch -> events under way, as far as it was told
        self._announced: tuple[str, ...] | None = None

    def open(self) -> None:
        client = self._client = self._new_client()
        self._answers, self._refusals, self._announced = [], {}, None
        host = self._address.host
        try:
            client.connect(host, self._port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise Unreachable(f"no connection to {host}:{self._port}: {reason_of(error)}") from error
        client.loop_start()
        deadline_s = time.monotonic() + self._timeout_s
        while not self._answers:
            if time.monotonic() > deadline_s:
                raise Unreachable(f"{host}:{self._port} does not answer")
            time.sleep(0.005)
        if self._answers[0].is_failure:
            raise Unreachable(f"{host}:{self._port} refuses the connection: {self._answers[0]}")
        self._holding = self._now()
        self._announce()

    def deliver(self, messages: Sequence[Message], done: Callable[[Message], object]) -> None:
        events = [message.event for message in messages]  # none is sent where one cannot be read
        waiting = []
        for message, event in zip(messages, events, strict=True):
            waiting.append((message, self._publish(f"{self._prefix}/events", message.body, retain=False)))
            self._show(event)
        self._correct(now=self._now())
        deadline_s = time.monotonic() + self._timeout_s
        for message, info in waiting:
            self._await(info, deadline_s)
            done(message)

    def tend(self) -> None:
        if not self._connected.is_connected():
            raise Unreachable(f"{self._address.host}:{self._port} has closed the connection")
        if self._setting.watches() != self._announced:
            self._announce()

    def close(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        if client.is_connected():
            info = client.publish(f"{self._prefix}/availability", b"offline", 1, True)
            if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                info.wait_for_publish(1.0)
        client.disconnect()
        client.loop_stop()

    @property
    def _connected(self) -> paho.Client:
        if self._client is None:
            raise RuntimeError("deliver() before open()")
        return self._client

    def _new_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._setting.client,
            protocol=self._version,
            reconnect_on_failure=False,
        )
        client.connect_timeout = self._timeout_s
        client.max_inflight_messages_set(200)
        client.will_set(f"{self._prefix}/availability", b"offline", 1, True)
        if self._address.user:
            client.username_pw_set(self._address.user, self._password or None)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect, client.on_publish = self._on_connect, self._on_publish
        return client

    def _on_connect(self, client: paho.Client, user: object, flags: object, answer: ReasonCode, rest: object) -> None:
        self._answers.append(answer)

    def _on_publish(
        self, client: paho.Client, user: object, packet: int, answer: ReasonCode, properties: object
    ) -> None:
        if answer.is_failure:
            self._refusals[packet] = str(answer)

    def _publish(self, topic: str, body: bytes, *, retain: bool) -> paho.MQTTMessageInfo:
        info = self._connected.publish(topic, body, 1, retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise Unreachable(f"{self._address.host}:{self._port}: {paho.error_string(info.rc)}")
        return info

    def _await(self, info: paho.MQTTMessageInfo, deadline_s: float) -> None:
        while not info.is_published():
            if not self._connected.is_connected():
                raise Unreachable(f"{self._address.host}:{self._port} has closed the connection")
            if time.monotonic() > deadline_s:
                raise Unreachable(f"{self._address.host}:{self._port} has not acknowledged a message")
            info.wait_for_publish(0.1)
        if info.mid in self._refusals:
            raise Unreachable(f"{self._address.host}:{self._port} refuses a message: {self._refusals[info.mid]}")

    def _show(self, event: Event) -> None:
        """The watch's retained topics, as of this message."""
        holding = self._holding.setdefault(event.data.watch, set())
        (holding.add if event.type == STARTED else holding.discard)(event.data.event)
        topic = f"{self._prefix}/watch/{slug(event.data.watch)}/attributes"
        self._publish(topic, encode(event.data), retain=True)
        self._publish_state(event.data.watch, bool(holding))

    def _publish_state(self, watch: str, on: bool) -> None:
        self._publish(f"{self._prefix}/watch/{slug(watch)}/state", b"ON" if on else b"OFF", retain=True)

    def _correct(self, now: dict[str, set[str]]) -> None:
        """Messages that come late, or again, must not leave a watch as it no longer is."""
        for watch, holding in self._holding.items():
            if bool(holding) != bool(now.get(watch)):
                self._publish_state(watch, bool(now.get(watch)))
        self._holding = now

    def _now(self) -> dict[str, set[str]]:
        """watch -> events that hold."""
        holding: dict[str, set[str]] = {}
        for watch, event in self._setting.holding():
            holding.setdefault(watch, set()).add(event)
        return holding

    def _announce(self) -> None:
        """Who is here, what it watches for, and what holds."""
        watches = self._setting.watches()
        named = tuple(dict.fromkeys((*watches, *(watch for watch, events in self._holding.items() if events))))
        if self._discovery:
            payload = discovery(self._setting.client, self._setting.device, self._prefix, named)
            topic = f"{self._discovery}/device/{self._setting.client}/config"
            self._publish(topic, json.dumps(payload, ensure_ascii=False).encode(), retain=True)
        for watch in named:
            self._publish_state(watch, bool(self._holding.get(watch)))
        self._await(
            self._publish(f"{self._prefix}/availability", b"online", retain=True), time.monotonic() + self._timeout_s
        )
        self._announced = watches


def _tls(address: Address) -> ssl.SSLContext:
    options = address.options
    try:
        context = ssl.create_default_context(cafile=options.get("ca"))
        if "cert" in options:
            context.load_cert_chain(options["cert"], options.get("key"))
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"--sink {address.place}: {reason_of(error)}", "check the files of ca=, cert= and key="
        ) from error
    return context
