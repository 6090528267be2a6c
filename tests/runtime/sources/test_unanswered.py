"""Against real servers on the loopback, and the places where there are none."""

from __future__ import annotations

import socket
import threading

import pytest
from rtsp_server import RtspServer

from edgeclip.errors import SourceError
from edgeclip.runtime.sources.network import NetworkStream
from edgeclip.runtime.sources.unanswered import why


def test_a_host_that_is_not_known() -> None:
    said, fix = why("rtsp://no-such-camera.invalid/x", "rtsp://no-such-camera.invalid/x")
    assert "the name no-such-camera.invalid is not known" in said
    assert "spelling" in fix


def test_a_port_that_is_closed_or_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert f"127.0.0.1 refuses port {port}" in why(f"http://127.0.0.1:{port}/x", "it")[0]
    assert "port" in why("rtsp://cam:8a/90@127.0.0.1/x", "it")[0]


def test_a_missing_and_a_wrong_login_are_told_apart_and_none_is_shown() -> None:
    with RtspServer(password="right") as server:
        place = f"127.0.0.1:{server.port}/camera"
        with pytest.raises(SourceError, match="asks for a login"):
            NetworkStream(server.url).open()
        with pytest.raises(SourceError, match="did not take the login") as caught:
            NetworkStream(f"rtsp://cam:wrong@{place}").open()
        assert "wrong" not in caught.value.message + caught.value.hint
        NetworkStream(f"rtsp://cam:right@{place}").open()


def answering(reply: bytes) -> socket.socket:
    """A server that says one thing to the first who comes."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with server, server.accept()[0] as client:
            client.recv(4096)
            client.sendall(reply)

    threading.Thread(target=serve, daemon=True).start()
    return server


@pytest.mark.parametrize(
    ("scheme", "reply", "said"),
    [
        ("rtsp", b"RTSP/1.0 404 Not Found\r\n\r\n", "no stream of that path"),
        ("http", b"HTTP/1.1 404 Not Found\r\n\r\n", "no stream of that path"),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n<html>", "does not answer with a video stream"),
        ("rtsp", b"SSH-2.0-OpenSSH\r\n", "does not answer with a video stream"),
    ],
)
def test_what_answers_something_else(scheme: str, reply: bytes, said: str) -> None:
    port = answering(reply).getsockname()[1]
    assert said in why(f"{scheme}://127.0.0.1:{port}/x", "it")[0]
