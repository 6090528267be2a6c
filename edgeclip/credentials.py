"""Secrets by name: `${credential:NAME}` in a setting is the content of $CREDENTIALS_DIRECTORY/NAME.

systemd makes that directory for a service, of what LoadCredential= names: readable by it alone, and neither in argv nor
in the environment (systemd.exec(5), CREDENTIALS).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgeclip.errors import ConfigError, reason_of

DIRECTORY = "CREDENTIALS_DIRECTORY"
_REFERENCE = re.compile(r"\$\{credential:([^}]*)\}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def with_credentials(key: str, value: Any, environment: Mapping[str, str]) -> Any:
    """`value`, a text or a list of them, with secrets in the places of their names. In a URL they are percent-encoded.

    Raises ConfigError naming `key` and the credential, never its content.
    """
    if isinstance(value, (list, tuple)):
        return type(value)(with_credentials(key, one, environment) for one in value)
    if not isinstance(value, str) or "${" not in value:
        return value
    encode = functools.partial(quote, safe="") if "://" in value else str
    return _REFERENCE.sub(lambda found: encode(_read(key, found[1], environment)), value)


def _read(key: str, name: str, environment: Mapping[str, str]) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{key}: ${{credential:{name}}}: no such name", "letters, digits, '_', '-' and '.'")
    folder = environment.get(DIRECTORY)
    if not folder:
        raise ConfigError(
            f"{key}: the credential {name} is asked for, and {DIRECTORY} is not set",
            f"as a service: put it into /etc/edgeclip/credentials/{name}, then `edgeclip service install`; by hand: "
            f"{DIRECTORY}=/etc/edgeclip/credentials edgeclip run ...",
        )
    try:
        secret = (Path(folder) / name).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:  # the latter's words hold some of the secret
        reason = reason_of(error) if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(
            f"{key}: the credential {name} cannot be read: {reason}",
            f"put it into /etc/edgeclip/credentials/{name}, then `edgeclip service install --now`: a start reads it",
        ) from error
    if not secret:
        raise ConfigError(f"{key}: the credential {name} is empty", f"write it into /etc/edgeclip/credentials/{name}")
    return secret
