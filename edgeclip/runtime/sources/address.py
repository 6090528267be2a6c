"""What a source is called in messages, events and sinks: its URI without anything secret."""

from __future__ import annotations

import re

_LOGIN = re.compile(r"(\b[a-z][a-z0-9+.-]*://)(\S*)@", re.IGNORECASE)  # to the last @: passwords hold / ? # and @
_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?]*\?)\S*", re.IGNORECASE)
_SECRET = re.compile(
    r"\b(user(?:name|-id)?|login|pass(?:word|wd)?|pwd|user-pw|token|secret|auth|api-?key|key)=[^/&\s]*", re.IGNORECASE
)


def redacted(uri: str) -> str:
    """`uri` with the login, the query's values and `password=...` parts of the path or pipeline starred out.

    rtsp://user:pw@host/live -> rtsp://***@host/live; http://host/mjpeg?token=1 -> http://host/mjpeg?***
    """
    shown = _LOGIN.sub(r"\1***@", uri)
    shown = _QUERY.sub(r"\1***", shown)
    return _SECRET.sub(r"\1=***", shown)
