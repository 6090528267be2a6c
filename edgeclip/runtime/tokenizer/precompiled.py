"""SentencePiece's normalization table: a double-array trie from strings to what they become, packed into base64."""

from __future__ import annotations

import base64
import binascii
import struct
import unicodedata
from collections.abc import Callable, Iterator

from edgeclip.runtime.tokenizer.component import Component

SHORT_BYTES = 6  # the library looks up what belongs together as one only where it is shorter than this
JOINERS = "\u200c\u200d"


class Precompiled(Component, frozen=True, tag=True):
    """Replaces what the table lists; all else stays.

    longest (ours): the longest listed beginning of what is left, as SentencePiece itself does it. Otherwise as the
    library, which walks over user-perceived characters: those that are short enough for it to look up as one are a
    letter with its combining marks, or a line break of two characters, which is what is told apart here.
    """

    precompiled_charsmap: str
    longest: bool = False

    def __post_init__(self) -> None:
        self.table()

    def change(self) -> Callable[[str], str]:
        table = self.table()
        if table is None:
            return str
        return table.apply_longest if self.longest else table.apply

    def table(self) -> Table | None:
        try:
            raw = base64.b64decode(self.precompiled_charsmap, validate=True)
            if not raw:
                return None
            (size,) = struct.unpack_from("<I", raw)
            if size % 4 or 4 + size > len(raw):
                raise ValueError("the table's size is wrong")
            units = struct.unpack_from(f"<{size // 4}I", raw, 4)
        except (binascii.Error, struct.error) as error:
            raise ValueError(f"precompiled_charsmap is damaged: {error}") from error
        return Table(units, raw[4 + size :])


class Table:
    """units: of the trie (Yata's darts-clone). texts: what they lead to, each ended by a zero byte."""

    def __init__(self, units: tuple[int, ...], texts: bytes) -> None:
        self._units = units
        self._texts = texts

    def apply(self, text: str) -> str:
        parts: list[str] = []
        for cluster in clusters(text):
            if len(cluster.encode("utf-8", "surrogatepass")) < SHORT_BYTES:
                found = self._look_up(cluster)
                if found is not None:
                    parts.append(found)
                    continue
            for character in cluster:
                found = self._look_up(character)
                parts.append(character if found is None else found)
        return "".join(parts)

    def apply_longest(self, text: str) -> str:
        raw = text.encode("utf-8", "surrogatepass")
        parts: list[bytes] = []
        place = 0
        while place < len(raw):
            matches = list(self._matches(raw, place))
            length, becomes = matches[-1] if matches else one_character(raw, place)
            parts.append(becomes)
            place += length
        return b"".join(parts).decode("utf-8", "replace")

    def _look_up(self, text: str) -> str | None:
        """What the shortest listed beginning of `text` becomes."""
        shortest = next(self._matches(text.encode("utf-8", "surrogatepass"), 0), None)
        return None if shortest is None else shortest[1].decode("utf-8", "replace")

    def _matches(self, raw: bytes, start: int) -> Iterator[tuple[int, bytes]]:
        """Listed texts that begin at `start`, shortest first: (their length in bytes, what they become)."""
        units = self._units
        place = offset(units[0]) if units else 0
        for end in range(start, len(raw)):
            place ^= raw[end]
            if place >= len(units) or units[place] & 0x800000FF != raw[end]:
                return
            unit = units[place]
            place ^= offset(unit)
            if unit >> 8 & 1:
                begin = units[place] & 0x7FFFFFFF
                yield end + 1 - start, self._texts[begin : self._texts.index(b"\0", begin)]


def one_character(raw: bytes, start: int) -> tuple[int, bytes]:
    end = start + 1
    while end < len(raw) and raw[end] & 0xC0 == 0x80:
        end += 1
    return end - start, raw[start:end]


def offset(unit: int) -> int:
    return unit >> 10 << ((unit & 1 << 9) >> 6)


def clusters(text: str) -> Iterator[str]:
    """Letters with the marks that combine with them; every other character by itself."""
    start = 0
    for place in range(1, len(text) + 1):
        if place < len(text) and joined(text[place - 1], text[place]):
            continue
        yield text[start:place]
        start = place


def joined(before: str, after: str) -> bool:
    if before == "\r":
        return after == "\n"
    if unicodedata.category(before) in ("Cc", "Zl", "Zp"):
        return False
    return after in JOINERS or unicodedata.category(after) in ("Mn", "Me", "Mc")
