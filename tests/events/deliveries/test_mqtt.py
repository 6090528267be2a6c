"""Against a real mosquitto: plain, with a login, over TLS, MQTT 3.1.1 and 5."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from events.made import event, row, setting, until
from mosquitto import Mosquitto, Subscriber, binary

from edgeclip.events.deliveries.homeassistant import slug
from edgeclip.events.deliveries.mqtt import Mqtt
from edgeclip.events.delivery import Message, Rejected, Unreachable
from edgeclip.events.event import ENDED

HASHED = (  # of "secret", by mosquitto_passwd
    "$7$101$8LmHpOsHrQDs+VMW$Dawtg9E1miZjvAXG4k6/POK5yyIB4Meq+LAdCiuQ6UXIuKQqjeXnDC0IdBiBwekyYjJjjQXKzgSqsrswUFHb+A=="
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as started:
        yield started


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_messages_states_and_availability(broker: Mosquitto, version: str) -> None:
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/site/cam?version={version}", setting(holding=[("door open", "1")]))
    done: list[Message] = []
    with Subscriber(broker.port) as heard:
        sink.open()
        messages = [row(1, event("1")), row(2, event("1", ENDED)), row(3, event("3"))]
        sink.deliver(messages, done.append)
        until(lambda: len(heard.on("site/cam/events")) == 3)
        assert heard.on("site/cam/events") == [message.body for message in messages]
        until(lambda: len(heard.on("site/cam/watch/door_open/state")) == 4)
        assert heard.on("site/cam/watch/door_open/state") == [b"ON", b"ON", b"OFF", b"ON"]
        assert json.loads(heard.on("site/cam/watch/door_open/attributes")[0])["event"] == "1"
        assert heard.on("site/cam/availability") == [b"online"]
        sink.tend()
        sink.close()
        until(lambda: heard.on("site/cam/availability") == [b"online", b"offline"])
    assert done == messages
    with Subscriber(broker.port) as later:  # what is retained
        until(lambda: later.on("site/cam/watch/door_open/state") == [b"ON"])
        until(lambda: later.on("site/cam/availability") == [b"offline"])
        assert not later.on("site/cam/events")


def test_what_cannot_be_read_is_refused_and_nothing_beside_it_sent_twice(broker: Mosquitto) -> None:
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/x", setting())
    with Subscriber(broker.port) as heard:
        sink.open()
        bad = Message(2, "bad-started", b"no JSON", 0)
        with pytest.raises(Rejected, match=r"row 2 of the outbox, bad-started, ") as refused:
            sink.deliver([row(1), bad, row(3)], lambda message: None)
        assert refused.value.rejected == bad
        sink.deliver([row(1), row(3)], lambda message: None)
        until(lambda: len(heard.on("x/events")) == 2)
        sink.close()
    assert heard.on("x/events") == [row(1).body, row(3).body]


def test_a_message_that_mqtt_5_refuses_is_not_delivered(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic readwrite x/availability\ntopic readwrite homeassistant/#\n")
    (tmp_path / "acl").chmod(0o600)
    done: list[Message] = []
    with Mosquitto(tmp_path, f"allow_anonymous true\nacl_file {tmp_path / 'acl'}\n") as broker:
        sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/x?version=5", setting())
        sink.open()
        with pytest.raises(Unreachable, match="refuses a message: Not authorized"):
            sink.deliver([row(1)], done.append)
        sink.close()
    assert not done


def test_late_messages_do_not_leave_a_watch_as_it_no_longer_is(broker: Mosquitto) -> None:
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/x", setting(holding=[]))
    with Subscriber(broker.port) as heard:
        sink.open()
        sink.deliver([row(1, event("old"))], lambda message: None)
        until(lambda: heard.on("x/watch/door_open/state") == [b"OFF", b"ON", b"OFF"])
        sink.close()


def test_home_assistant_finds_one_device_with_a_sensor_per_watch(broker: Mosquitto) -> None:
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/x", setting(("door open", "Tür zu")))
    with Subscriber(broker.port) as heard:
        sink.open()
        until(lambda: heard.on("homeassistant/device/edgeclip-board-1/config"))
        found = json.loads(heard.on("homeassistant/device/edgeclip-board-1/config")[0])
        sink.close()
    assert found["device"]["identifiers"] == ["edgeclip-board-1"]
    assert found["availability_topic"] == "x/availability"
    assert found["origin"]["name"] == "edgeclip"
    sensors = found["components"].values()
    assert [sensor["name"] for sensor in sensors] == ["door open", "Tür zu"]
    assert all(sensor["platform"] == "binary_sensor" for sensor in sensors)
    assert len({sensor["unique_id"] for sensor in sensors}) == 2
    assert found["components"]["door_open"]["state_topic"] == "x/watch/door_open/state"


def test_watches_that_are_edited_are_announced_again(broker: Mosquitto) -> None:
    watches = [("one",)]
    given = setting()
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/x", type(given)("board", "id", lambda: watches[0], list, {}.get))
    with Subscriber(broker.port, "homeassistant/#") as heard:
        sink.open()
        watches[0] = ("one", "two")
        sink.tend()
        sink.tend()
        until(lambda: len(heard.messages) == 2)
        sink.close()
    assert json.loads(heard.messages[-1][1])["components"].keys() == {"one", "two"}


def test_the_last_will_says_offline(broker: Mosquitto) -> None:
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/x", setting())
    with Subscriber(broker.port, "x/availability") as heard:
        sink.open()
        connection = sink._client.socket() if sink._client is not None else None
        assert connection is not None
        connection.shutdown(socket.SHUT_RDWR)  # as if the device had lost its power
        until(lambda: heard.on("x/availability") == [b"online", b"offline"])
        with pytest.raises(Unreachable):
            until(lambda: sink.tend())  # type: ignore[func-returns-value]
        sink.close()


def test_a_broker_that_goes_is_noticed_and_comes_back(broker: Mosquitto) -> None:
    sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/x", setting())
    sink.open()
    broker.stop()
    with pytest.raises(Unreachable):
        until(lambda: sink.tend())  # type: ignore[func-returns-value]
    done: list[Message] = []
    with pytest.raises(Unreachable):
        sink.deliver([row(1)], done.append)
    sink.close()
    with pytest.raises(Unreachable, match=r"^no connection to [\d.:]+: Connection refused$"):
        sink.open()
    sink.close()
    broker.start()
    sink.open()
    sink.deliver([row(1)], done.append)
    sink.close()
    assert done == [row(1)]


def test_a_login(tmp_path: Path) -> None:
    binary()
    (tmp_path / "users").write_text("me:" + HASHED)
    (tmp_path / "users").chmod(0o600)
    (tmp_path / "password").write_text("secret\n")
    settings = f"allow_anonymous false\npassword_file {tmp_path / 'users'}\n"
    with Mosquitto(tmp_path, settings) as broker:
        for uri, secrets in (
            (f"mqtt://me:secret@127.0.0.1:{broker.port}/x", {}),
            (f"mqtt://me@127.0.0.1:{broker.port}/x?password_file={tmp_path / 'password'}", {}),
            (f"mqtt://me@127.0.0.1:{broker.port}/x", {"EDGECLIP_MQTT_PASSWORD": "secret"}),
        ):
            sink = Mqtt(uri, setting(**secrets))
            sink.open()
            sink.close()
        wrong = Mqtt(f"mqtt://me@127.0.0.1:{broker.port}/x", setting(EDGECLIP_MQTT_PASSWORD="wrong"))
        with pytest.raises(Unreachable, match="refuses the connection"):
            wrong.open()
        wrong.close()


# paho leaves the socket of a failed handshake to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_tls_with_certificates_on_both_sides(tmp_path: Path, version: str) -> None:
    files = certificates(tmp_path)
    settings = (
        f"allow_anonymous true\ncafile {files['ca']}\ncertfile {files['broker']}\nkeyfile {files['broker.key']}\n"
    )
    with Mosquitto(tmp_path, f"{settings}require_certificate true\n") as broker:
        uri = f"mqtts://127.0.0.1:{broker.port}/x?version={version}&ca={files['ca']}"
        done: list[Message] = []
        sink = Mqtt(f"{uri}&cert={files['device']}&key={files['device.key']}", setting())
        sink.open()
        sink.deliver([row(1)], done.append)
        sink.close()
        assert done == [row(1)]
        for refused in (f"mqtts://127.0.0.1:{broker.port}/x", f"mqtt://127.0.0.1:{broker.port}/x?timeout_s=2"):
            stranger = Mqtt(refused, setting())
            with pytest.raises(Unreachable):
                stranger.open()
            stranger.close()


def test_topics_of_watches_are_safe_and_differ() -> None:
    names = ["door open", "Door Open!", "door/open", "+", "#", "猫", "犬", "a_b", "a b"]
    slugs = [slug(name) for name in names]
    assert slugs[0] == "door_open"
    assert all(part and not set(part) & set("/+# ") for part in slugs)
    assert len({*slugs[:7]}) == 7


def certificates(folder: Path) -> dict[str, Path]:
    """A CA of our own, and certificates by it for the broker at 127.0.0.1 and for a device."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def name(text: str) -> Any:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def usage(ca: bool) -> Any:
        others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        no = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
        return x509.KeyUsage(digital_signature=True, key_cert_sign=ca, crl_sign=ca, **no)

    now = datetime.datetime.now(datetime.timezone.utc)
    files: dict[str, Path] = {}
    ca_key = ec.generate_private_key(ec.SECP256R1())
    for role in ("ca", "broker", "device"):
        key = ca_key if role == "ca" else ec.generate_private_key(ec.SECP256R1())
        made = (
            x509.CertificateBuilder()
            .subject_name(name(role))
            .issuer_name(name("ca"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=role == "ca", path_length=None), critical=True)
            .add_extension(usage(role == "ca"), critical=True)  # Python 3.13 takes no CA without
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
            .sign(ca_key, hashes.SHA256())
        )
        files[role], files[f"{role}.key"] = folder / f"{role}.pem", folder / f"{role}.key"
        files[role].write_bytes(made.public_bytes(serialization.Encoding.PEM))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        files[f"{role}.key"].write_bytes(private)
    ssl.create_default_context(cafile=str(files["ca"]))
    return files
