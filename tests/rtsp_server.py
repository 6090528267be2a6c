"""A small RTSP server for tests: H.264 over interleaved TCP, and hooks to make it misbehave.

    with RtspServer() as server:
        ... read server.url ...
        server.stalled = True      # connections stay open, nothing is sent
        server.noise = 0.2         # this share of RTP payloads is random bytes
        server.frozen = True       # one picture, over and over, at FLOOD_FPS
    server.fps = 1             # a slow camera
    server.picture_at = lambda index: moving_bar(index, 640, 360)    # another resolution, from the next frame on
    server.drop()              # cut every connection
    server.drop_every_s = 6.0  # and again, and again; 0.0 for no longer
        server.stop(); server.start()   # gone, and back on the same port

Run as a programme it serves a clip, and takes the same words on standard input:

    python tests/rtsp_server.py clip.mp4 --port 8554
"""

from __future__ import annotations

import argparse
import base64
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator

import av
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
RTP_PAYLOAD_BYTES = 1400
FLOOD_FPS = 300
SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=edgeclip test\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track\r\n"
)


def moving_bar(index: int, width: int = 320, height: int = 240) -> Picture:
    """A white bar that walks over a grey which changes with `index`: no two neighbours are equal."""
    picture = np.full((height, width, 3), index * 7 % 200, np.uint8)
    left = index * 4 % (width - 16)
    picture[:, left : left + 16] = 255
    return picture


class RtspServer:
    """Serves `picture_at(0), picture_at(1), ...` at `fps` on 127.0.0.1. With `password`, Basic auth as user `cam`."""

    def __init__(
        self,
        picture_at: Callable[[int], Picture] = moving_bar,
        *,
        fps: int = 25,
        port: int = 0,
        password: str | None = None,
    ) -> None:
        self.stalled = False
        self.noise = 0.0
        self.frozen = False
        self.fps: float = fps
        self.picture_at = picture_at
        self.drop_every_s = 0.0
        self.sent_frames = 0
        self.connections = 0  # PLAY requests answered so far
        self._token = password and base64.b64encode(f"cam:{password}".encode()).decode()
        self._clients: list[socket.socket] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._listener: socket.socket | None = None
        self.port = port
        self.start()
        self._encoder = threading.Thread(target=self._produce, name="rtsp-encoder", daemon=True)
        self._encoder.start()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/camera"

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self.stop()
        self._encoder.join(5)

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), name="rtsp-accept", daemon=True).start()

    def stop(self) -> None:
        """Close the port and every connection."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.drop()

    def drop(self) -> None:
        """Cut every connection; new ones are welcome."""
        with self._lock:
            for client in self._clients:
                _hang_up(client)
            self._clients.clear()

    def _produce(self) -> None:
        encoder, packer = None, RtpPacker()
        index, due_s, begun_s = 0, time.monotonic(), time.monotonic()
        picture, dropped_s = self.picture_at(0), begun_s
        while not self._closed.is_set():
            if self.drop_every_s and time.monotonic() >= dropped_s + self.drop_every_s:
                dropped_s = time.monotonic()
                self.drop()
            if not self.frozen:
                picture = self.picture_at(index)
            size = picture.shape[1::-1]
            if encoder is None or (encoder.width, encoder.height) != size:
                encoder = _encoder(*size, round(self.fps))
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts = index
            for packet in encoder.encode(frame):
                self._send(list(packer.pack(bytes(packet), round((time.monotonic() - begun_s) * 90_000))))
            index += 1
            due_s = max(due_s + 1.0 / (FLOOD_FPS if self.frozen else self.fps), time.monotonic() - 1.0)
            self._closed.wait(max(0.0, due_s - time.monotonic()))

    def _send(self, packets: list[bytes]) -> None:
        if self.stalled:
            return
        data = b"".join(self._interleave(packet) for packet in packets)
        with self._lock:
            self._clients = [client for client in self._clients if _delivered(client, data)]
            self.sent_frames += 1

    def _interleave(self, packet: bytes) -> bytes:
        if self.noise and random.random() < self.noise:
            packet = packet[:12] + random.randbytes(len(packet) - 12)
        return b"$\0" + struct.pack(">H", len(packet)) + packet

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(client,), name="rtsp-client", daemon=True).start()

    def _converse(self, client: socket.socket) -> None:
        client.settimeout(None)
        try:
            for method, url, headers in _requests(client):
                reply, body = self._answer(method, url, headers)
                client.sendall(f"RTSP/1.0 {reply}CSeq: {headers.get('cseq', '0')}\r\n\r\n{body}".encode())
                if method == "PLAY" and reply.startswith("200"):
                    with self._lock:
                        self._clients.append(client)
                        self.connections += 1
                if method == "TEARDOWN":
                    break
        except OSError:
            pass
        finally:
            with self._lock:
                if client in self._clients:
                    self._clients.remove(client)
            _hang_up(client)

    def _answer(self, method: str, url: str, headers: dict[str, str]) -> tuple[str, str]:
        """Status line and headers (each ending in CRLF), and the body."""
        if self._token and headers.get("authorization") != f"Basic {self._token}":
            return '401 Unauthorized\r\nWWW-Authenticate: Basic realm="edgeclip"\r\n', ""
        if method == "OPTIONS":
            return "200 OK\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\n", ""
        if method == "DESCRIBE":
            length = f"Content-Length: {len(SDP)}\r\n"
            return f"200 OK\r\nContent-Type: application/sdp\r\nContent-Base: {url}/\r\n{length}", SDP
        if method == "SETUP" and "TCP" not in headers.get("transport", ""):
            return "461 Unsupported Transport\r\n", ""
        if method == "SETUP":
            return "200 OK\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n", ""
        return "200 OK\r\nSession: 1\r\n", ""


def _encoder(width: int, height: int, fps: int) -> av.VideoCodecContext:
    """A key frame, with the parameter sets before it, every ten frames."""
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.gop_size = width, height, "yuv420p", 10
    encoder.framerate, encoder.bit_rate, encoder.thread_count = fps, 1_500_000, 1
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "repeat-headers=1"}
    return encoder


class RtpPacker:
    """Cuts H.264 access units into RTP packets (RFC 6184: single NAL units and FU-A)."""

    def __init__(self) -> None:
        self._sequence = 0

    def pack(self, access_unit: bytes, timestamp: int) -> Iterator[bytes]:
        units = list(_nal_units(access_unit))
        for number, unit in enumerate(units):
            last = number == len(units) - 1
            if len(unit) <= RTP_PAYLOAD_BYTES:
                yield self._packet(unit, timestamp, marker=last)
                continue
            indicator, kind = (unit[0] & 0xE0) | 28, unit[0] & 0x1F
            body = unit[1:]
            for offset in range(0, len(body), RTP_PAYLOAD_BYTES):
                chunk = body[offset : offset + RTP_PAYLOAD_BYTES]
                end = offset + len(chunk) == len(body)
                header = bytes([indicator, kind | (0x80 if offset == 0 else 0) | (0x40 if end else 0)])
                yield self._packet(header + chunk, timestamp, marker=last and end)

    def _packet(self, payload: bytes, timestamp: int, *, marker: bool) -> bytes:
        self._sequence = (self._sequence + 1) & 0xFFFF
        header = struct.pack(">BBHII", 0x80, 96 | (marker << 7), self._sequence, timestamp & 0xFFFFFFFF, 0xED6EC119)
        return header + payload


def _nal_units(data: bytes) -> Iterator[bytes]:
    """Split an Annex B byte stream at its start codes."""
    for part in data.split(b"\0\0\1")[1:]:
        unit = part.rstrip(b"\0")
        if unit:
            yield unit


def _requests(client: socket.socket) -> Iterator[tuple[str, str, dict[str, str]]]:
    """RTSP requests as (method, url, lower-cased headers); the client's interleaved RTCP is skipped."""
    buffer = b""
    while data := client.recv(4096):
        buffer += data
        while buffer:
            if buffer.startswith(b"$"):
                if len(buffer) < 4 or len(buffer) < 4 + int.from_bytes(buffer[2:4], "big"):
                    break
                buffer = buffer[4 + int.from_bytes(buffer[2:4], "big") :]
                continue
            head, separator, rest = buffer.partition(b"\r\n\r\n")
            if not separator:
                break
            buffer = rest
            first, *lines = head.decode("ascii", "replace").split("\r\n")
            pairs = (line.partition(":") for line in lines)
            method, url = first.split()[:2]
            yield method, url, {key.lower(): value.strip() for key, _, value in pairs}


def _delivered(client: socket.socket, data: bytes) -> bool:
    try:
        client.sendall(data)
    except OSError:
        _hang_up(client)
        return False
    return True


def _hang_up(client: socket.socket) -> None:
    try:
        client.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a clip over RTSP; commands on standard input.")
    parser.add_argument("clip")
    parser.add_argument("--port", type=int, default=8554)
    arguments = parser.parse_args()
    with av.open(arguments.clip) as container:
        stream = container.streams.video[0]
        fps = round(stream.average_rate or 25)
        clip = [frame.to_ndarray(format="bgr24") for frame in container.decode(stream)]
    with RtspServer(lambda index: clip[index % len(clip)], fps=fps, port=arguments.port) as server:
        print(f"{server.url} ({fps} fps): stall, resume, drop, noise, clean, stop, start, quit", flush=True)
        commands: dict[str, Callable[[], None]] = {
            "stall": lambda: setattr(server, "stalled", True),
            "resume": lambda: setattr(server, "stalled", False),
            "noise": lambda: setattr(server, "noise", 0.2),
            "clean": lambda: setattr(server, "noise", 0.0),
            "drop": server.drop,
            "stop": server.stop,
            "start": server.start,
        }
        for line in sys.stdin:
            if line.strip() == "quit":
                break
            if action := commands.get(line.strip()):
                action()


if __name__ == "__main__":
    main()
