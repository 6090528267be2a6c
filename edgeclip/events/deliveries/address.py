"""A sink's URI taken apart: where it leads, its options, and what is secret in it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from edgeclip.errors import ConfigError, UsageError, reason_of


@dataclass(frozen=True, slots=True)
class Address:
    """options: those known to the sink. query: the rest, as it stood, where the other side has options of its own."""

    scheme: str
    host: str
    port: int | None
    user: str
    password: str = field(repr=False)
    path: str
    options: Mapping[str, str]
    query: str

    @property
    def place(self) -> str:
        """scheme://host:port, to be shown."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{f':{self.port}' if self.port else ''}"

    def number(self, option: str, default: float) -> float:
        """Of an option, more than 0. Raises UsageError."""
        text = self.options.get(option)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0.0 < value < 1e9:
            raise UsageError(
                f"--sink {self.place}: {option}={text} is no number above 0", f"write {option}={default:g}"
            )
        return value


def parse_address(uri: str, options: Iterable[str], *, strict: bool = True) -> Address:
    """Raises UsageError for what is no address, and, where `strict`, for an option that is not among `options`."""
    known = tuple(options)
    try:
        parts = urlsplit(uri)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        scheme = uri.partition(":")[0]
        raise UsageError(f"--sink {scheme}:...: {error}", f"write {scheme}://HOST:PORT/PATH") from error
    if not host:
        raise UsageError(f"--sink {parts.scheme}:...: the host is missing", f"write {parts.scheme}://HOST:PORT/PATH")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = [name for name in given if name not in known]
    if strict and unknown:
        near = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"options: {', '.join(known)}"
        raise UsageError(f"--sink {parts.scheme}://{host}: no such option: {unknown[0]}", hint)
    rest = "&".join(part for part in parts.query.split("&") if part and part.partition("=")[0] not in known)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    taken = {name: value for name, value in given.items() if name in known}
    return Address(parts.scheme, host, port, user, password, parts.path, taken, rest)


def secret(option: str, path: str | None, variable: str, value: str | None) -> str:
    """A password or key: what the file at `path` holds, else the variable's value, else "". Raises ConfigError."""
    if path is None:
        return value or ""
    try:
        text = Path(path).read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{option}={path}: cannot be read: {reason_of(error)}", f"mend the path, or set {variable}"
        ) from error
    if not text:
        raise ConfigError(f"{option}={path}: the file is empty", "put the secret in it, on one line")
    return text
