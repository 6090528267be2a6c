from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import socket
import threading
import time
from collections.abc import Iterator
from email.message import Message as Headers
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from events.made import row, setting

from edgeclip.events.deliveries.webhook import Webhook
from edgeclip.events.delivery import Message, Rejected, Unreachable


class Server:
    """had: (path, headers, body) of every POST. status: what the next are answered with."""

    def __init__(self) -> None:
        self.had: list[tuple[str, Headers, bytes]] = []
        self.status = 204
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.had.append((self.path, self.headers, body))
                self.send_response(server.status)
                if 300 <= server.status < 400:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    opened = Server()
    yield opened
    opened.close()


def test_posts_each_message_as_it_is(server: Server) -> None:
    done: list[Message] = []
    hook = Webhook(f"webhook+{server.url}/hook?token=1&timeout_s=5", setting())
    hook.deliver([row(1), row(2)], done.append)
    assert [(path, body) for path, _, body in server.had] == [("/hook?token=1", row(n).body) for n in (1, 2)]
    headers = server.had[0][1]
    assert headers["Content-Type"] == "application/cloudevents+json"
    assert headers["Idempotency-Key"] == "1-started"
    assert headers["Edgeclip-Signature"] is None
    assert done == [row(1), row(2)]


def test_signs_what_it_sends(server: Server, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("top secret\n")
    Webhook(f"{server.url}/?key_file={tmp_path / 'key'}", setting()).deliver([row(1)], print)
    Webhook(f"{server.url}/", setting(EDGECLIP_WEBHOOK_KEY="other")).deliver([row(1)], print)
    for key, (_, headers, body) in zip((b"top secret", b"other"), server.had, strict=True):
        parts = dict(part.split("=", 1) for part in headers["Edgeclip-Signature"].split(","))
        assert parts["v1"] == hmac.new(key, parts["t"].encode() + b"." + body, hashlib.sha256).hexdigest()


def test_a_login_becomes_basic_authentication(server: Server) -> None:
    Webhook(server.url.replace("//", "//me:p%40ss@"), setting()).deliver([row(1)], print)
    assert server.had[0][1]["Authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()


@pytest.mark.parametrize("status", [302, 307, 401, 404, 429, 500, 503])
def test_other_answers_are_tried_again(server: Server, status: int) -> None:
    server.status = status
    with pytest.raises(Unreachable, match=f"HTTP {status}"):
        Webhook(f"{server.url}/", setting()).deliver([row(1)], print)
    assert len(server.had) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_some_answers_refuse_the_message_for_good(server: Server, status: int) -> None:
    server.status = status
    with pytest.raises(Rejected) as caught:
        Webhook(f"{server.url}/", setting()).deliver([row(5), row(6)], print)
    assert caught.value.rejected == row(5)


def test_nobody_there_is_tried_again(server: Server) -> None:
    url = server.url
    server.close()
    server._thread = threading.Thread()
    with pytest.raises(Unreachable, match=r"^no answer: Connection refused$"):
        Webhook(f"{url}/", setting()).deliver([row(1)], print)
    server.__init__()  # type: ignore[misc]  # for the fixture to close


@pytest.mark.parametrize(
    "begin", [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HT"]
)
def test_an_answer_that_trickles_holds_up_nothing_for_long(begin: bytes) -> None:
    """A byte every 50 ms, for 10 s: each comes well before the time-out."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        trickle = threading.Thread(target=trickling, args=(listening, begin))
        trickle.start()
        began_s = time.monotonic()
        hook = Webhook(f"http://127.0.0.1:{listening.getsockname()[1]}/?timeout_s=0.3", setting())
        with pytest.raises(Unreachable) if begin == b"HT" else contextlib.nullcontext():
            hook.deliver([row(1)], print)
        assert time.monotonic() - began_s < 5
        trickle.join()


def trickling(listening: socket.socket, begin: bytes) -> None:
    connection, _ = listening.accept()
    with connection, contextlib.suppress(OSError):  # when the other side has gone
        connection.recv(65_536)
        connection.sendall(begin)
        for _ in range(200):
            connection.sendall(b"x")
            time.sleep(0.05)
