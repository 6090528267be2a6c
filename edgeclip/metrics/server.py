"""/metrics, /healthz and /readyz over HTTP, on threads of their own."""

from __future__ import annotations

import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from edgeclip.errors import ConfigError, UsageError, reason_of
from edgeclip.metrics.exposition import Exposition
from edgeclip.metrics.meter import Meter
from edgeclip.runtime.board import Board

TEXT = "text/plain; charset=utf-8"
CLIENT_TIMEOUT_S = 10.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Without HTTPServer's look-up of the host's name, which waits for a network that may not be there."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asked and did not wait for the answer is no error."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class MetricsServer:
    """Use as a context manager. address: HOST:PORT; port 0 takes a free one, see `port`.

    Raises UsageError for what is no address, ConfigError for one that cannot be had.
    """

    def __init__(self, address: str, meter: Meter, board: Board | None = None) -> None:
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65_535:
            raise UsageError(f"--metrics {address}: no HOST:PORT", "write --metrics 127.0.0.1:9464, or off")
        registry = CollectorRegistry()
        registry.register(Exposition(meter, board or Board()))
        ProcessCollector(registry=registry)
        try:
            self._server = _Server((host.strip("[]"), int(port)), _handler(meter, registry))
        except OSError as error:
            raise ConfigError(
                f"--metrics {address}: cannot listen: {reason_of(error)}", "choose another port"
            ) from error
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)

    def __enter__(self) -> MetricsServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(meter: Meter, registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_TIMEOUT_S

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif path in ("/healthz", "/readyz"):
                wrong = meter.ill() if path == "/healthz" else meter.ready()
                self._answer(503 if wrong else 200, TEXT, f"{wrong or 'ok'}\n".encode())
            else:
                self._answer(404, TEXT, b"/metrics, /healthz, /readyz\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            return

    return Handler
