"""Events by HTTP POST: one request a message, in order; a 2xx answer is delivery.

    POST PATH
    Content-Type: application/cloudevents+json
    Idempotency-Key: <message id>
    Edgeclip-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>." + body>     with a key

Redirects are not followed. 400, 413, 415 and 422 refuse the one message for good; any other answer, and none, is tried
again. `https://HOST/PATH?key_file=FILE&ca=FILE&timeout_s=10`; what else is in the query goes to the host. The key may
also be in $EDGECLIP_WEBHOOK_KEY. A login in the address becomes basic authentication.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

from edgeclip import __version__
from edgeclip.errors import ConfigError, reason_of
from edgeclip.events.deliveries import Setting
from edgeclip.events.deliveries.address import parse_address, secret
from edgeclip.events.delivery import Message, Rejected, Unreachable

OPTIONS = ("key_file", "ca", "timeout_s")
KEY = "EDGECLIP_WEBHOOK_KEY"
REFUSED = frozenset({400, 413, 415, 422})
TIMEOUT_S = 10.0
LONGEST = 3.0  # times timeout_s, which is of one step: for an answer that trickles in


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **keywords: Any) -> None:
        return None  # the answer becomes an HTTPError


class _Kept(urllib.request.AbstractHTTPHandler):
    """Keeps the connection of a handler's present request, to be cut from another thread."""

    connection: http.client.HTTPConnection | None = None

    def do_open(self, http_class: Any, req: urllib.request.Request, **options: Any) -> Any:
        def connect(*arguments: Any, **keywords: Any) -> http.client.HTTPConnection:
            made: http.client.HTTPConnection = http_class(*arguments, **keywords)
            self.connection = made
            return made

        return super().do_open(connect, req, **options)

    def cut(self) -> None:
        opened = self.connection.sock if self.connection is not None else None
        if opened is not None:
            with contextlib.suppress(OSError):  # it is closed already
                socket.socket.shutdown(opened, socket.SHUT_RDWR)


class _Http(_Kept, urllib.request.HTTPHandler):
    pass


class _Https(_Kept, urllib.request.HTTPSHandler):
    pass


class Webhook:
    def __init__(self, uri: str, setting: Setting) -> None:
        address = parse_address(uri.removeprefix("webhook+"), OPTIONS, strict=False)
        self._url = f"{address.place}{address.path or '/'}{f'?{address.query}' if address.query else ''}"
        path = f"{address.path}?{address.query}"
        # Paths of webhooks are often secret: only their digest is shown.
        self.name = f"{address.place}/#{hashlib.sha256(path.encode()).hexdigest()[:8]}"
        self._key = secret("key_file", address.options.get("key_file"), KEY, setting.environment(KEY)).encode()
        self._timeout_s = address.number("timeout_s", TIMEOUT_S)
        self._headers = {"Content-Type": "application/cloudevents+json", "User-Agent": f"edgeclip/{__version__}"}
        if address.user:
            login = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {login}"
        self._handler = _Https(context=_tls(address.options.get("ca"))) if address.scheme == "https" else _Http()
        self._open = urllib.request.build_opener(_NoRedirect(), self._handler).open

    def open(self) -> None:
        return

    def deliver(self, messages: Sequence[Message], done: Callable[[Message], object]) -> None:
        for message in messages:
            self._post(message)
            done(message)

    def tend(self) -> None:
        return

    def close(self) -> None:
        return

    def _post(self, message: Message) -> None:
        headers = {**self._headers, "Idempotency-Key": message.id}
        if self._key:
            headers["Edgeclip-Signature"] = signature(self._key, int(time.time()), message.body)
        request = urllib.request.Request(self._url, message.body, headers, method="POST")
        too_long = threading.Timer(LONGEST * self._timeout_s, self._handler.cut)
        too_long.daemon = True
        too_long.start()
        try:
            self._open(request, timeout=self._timeout_s).close()  # its status is all there is to know
        except urllib.error.HTTPError as error:
            with error:
                reason = f"HTTP {error.code} {error.reason}"
            raise Rejected(reason, message) if error.code in REFUSED else Unreachable(reason) from None
        except (OSError, http.client.HTTPException) as error:
            # What http.client says may quote the path.
            cause = getattr(error, "reason", error) if isinstance(error, OSError) else type(error).__name__
            said = reason_of(cause) if isinstance(cause, BaseException) else cause
            raise Unreachable(f"no answer: {said}") from error
        finally:
            too_long.cancel()


def signature(key: bytes, unix_s: int, body: bytes) -> str:
    """The value of Edgeclip-Signature."""
    digest = hmac.new(key, b"%d." % unix_s + body, hashlib.sha256).hexdigest()
    return f"t={unix_s},v1={digest}"


def _tls(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"ca={ca}: {reason_of(error)}", "name a file of PEM certificates") from error
