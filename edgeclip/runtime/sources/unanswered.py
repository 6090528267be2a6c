"""Why a stream on the network did not open. FFmpeg inside OpenCV does not tell, so the host is asked once more."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
WAIT_S = 0.5  # for each answer; FFmpeg has waited longer before
PERCENT = "(characters such as @ / : in a password must be written %40 %2F %3A)"


def why(url: str, name: str) -> tuple[str, str]:
    """A sentence and its remedy about `url`, which is called `name` where it is shown. No login is sent."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        port = parts.port or PORTS[parts.scheme.lower()]
    except ValueError:
        return f"{name}: the port is no number from 0 to 65535", "write rtsp://HOST:554/PATH; " + PERCENT
    try:
        with socket.create_connection((host, port), WAIT_S) as connection:
            status = _status(connection, parts.scheme.lower(), host, port, parts.path, parts.query)
    except (socket.gaierror, UnicodeError):
        return f"{name}: the name {host} is not known on this network", "check its spelling, or give the IP address"
    except ConnectionRefusedError:
        return f"{name}: {host} refuses port {port}", "check the port, and that streaming is turned on in the camera"
    except OSError:
        return f"{name}: nothing answers at {host}, port {port}", "check that the camera is on, and on this network"
    if status == 401 and parts.username is None:
        return f"{name}: the camera asks for a login", f"give it: {parts.scheme}://USER:PASSWORD@{host}/PATH {PERCENT}"
    if status == 401:
        return f"{name}: the camera did not take the login, or the path", f"check user, password and path {PERCENT}"
    if status == 404:
        return f"{name}: the camera has no stream of that path", "check the path: the camera's manual says it"
    return (
        f"{name} does not answer with a video stream",
        f"check port, path, user and password of the URL {PERCENT}",
    )


def _status(connection: socket.socket, scheme: str, host: str, port: int, path: str, query: str) -> int:
    """Of an answer without a login, as a number; 0 where there is none, or none that can be read."""
    target = f"{path or '/'}{'?' + query if query else ''}"
    if scheme == "rtsp":
        request = f"DESCRIBE rtsp://{host}:{port}{target} RTSP/1.0\r\nCSeq: 1\r\n\r\n"
    elif scheme == "http":
        request = f"GET {target} HTTP/1.0\r\nHost: {host}\r\n\r\n"
    else:
        return 0
    try:
        connection.settimeout(WAIT_S)
        connection.sendall(request.encode())
        answer = connection.recv(64)
    except OSError:
        return 0
    found = re.match(rb"(?:RTSP|HTTP)/\d\.\d (\d{3})", answer)
    return int(found[1]) if found else 0
