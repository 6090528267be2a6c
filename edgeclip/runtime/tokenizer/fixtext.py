"""The text repair that CLIP was trained behind (the `ftfy` library's defaults), without that library.

All of it but one: text that was decoded with the wrong character set ("schÃ¶n") is left as it is. Telling it apart
takes ftfy's tables of what is unlikely, which are longer than the rest of this tokenizer; and a label that reads like
that is a mistake in the label file, seen by whoever reads it.
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import lru_cache
from html.entities import html5

ENTITY = re.compile(r"&#?[0-9A-Za-z]{1,24};")
TERMINAL_ESCAPE = re.compile("\x1b\\[[\\d;]*[a-zA-Z]")
LINE_BREAK = re.compile("\r\n|[\r\u2028\u2029\x85]")
SURROGATES = re.compile("[\ud800-\udfff]+")
LATIN_DIGRAPHS = "".join(map(chr, (0x132, 0x133, 0x149, *range(0x1C4, 0x1CD), *range(0x1F1, 0x1F4))))
LATIN_LIGATURES = "".join(map(chr, range(0xFB00, 0xFB07)))
LONG_ST = "\ufb05"
HALF_AND_FULL_WIDTH = range(0xFF01, 0xFFF0)
UNWANTED = (
    *range(0x00, 0x09), 0x0B, *range(0x0E, 0x20), 0x7F,  # ASCII's controls, but for white space
    *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD),  # deprecated ones, byte order mark, annotations
)  # fmt: skip


@lru_cache(1)
def plain() -> dict[int, str | None]:
    """What single characters become: digraphs and widths taken apart, quotes straight, C1 as Windows-1252 has them."""
    table: dict[int, str | None] = {0x3000: " "}
    table |= {ord(letter): unicodedata.normalize("NFKC", letter) for letter in LATIN_DIGRAPHS + LATIN_LIGATURES}
    table[ord(LONG_ST)] = "\u017ft"
    table |= {code: unicodedata.normalize("NFKC", chr(code)) for code in HALF_AND_FULL_WIDTH}
    for code in range(0x80, 0xA0):
        letter = bytes([code]).decode("cp1252", "ignore")
        if letter:
            table[code] = letter
    for quote in "\u02bc\u2018\u2019\u201a\u201b":
        table[ord(quote)] = "'"
    for quote in "\u201c\u201d\u201e\u201f":
        table[ord(quote)] = '"'
    for code, letters in table.items():
        if letters in ("\u2018", "\u2019", "\u201a"):
            table[code] = "'"
        elif letters in ("\u201c", "\u201d", "\u201e"):
            table[code] = '"'
        elif letters is not None and "\u02bc" in letters:
            table[code] = letters.replace("\u02bc", "'")
    return table


@lru_cache(1)
def entities() -> dict[str, str]:
    """HTML's entities that end in a semicolon, and in capitals those of them that mean nothing else there."""
    table = {f"&{name}": text for name, text in html5.items() if name.endswith(";")}
    for name, text in html5.items():
        capitals = f"&{name.upper()}"
        if name.endswith(";") and name == name.lower() and html.unescape(capitals) == capitals:
            table[capitals] = text.upper()
    return table


def fix_text(text: str) -> str:
    """Line by line, each until nothing changes any more. From the first line with a "<" on, entities stay."""
    lines: list[str] = []
    markup = False
    for line in re.findall("[^\n]*\n|[^\n]+", text):
        markup = markup or "<" in line
        before = None
        while line != before:
            before, line = line, fix_line(line, not markup)
        lines.append(line)
    return "".join(lines)


def fix_line(line: str, unescape: bool) -> str:
    if unescape and "&" in line:
        line = ENTITY.sub(resolved, line)
    if line.isascii():
        return TERMINAL_ESCAPE.sub("", LINE_BREAK.sub("\n", line)).translate(dict.fromkeys(UNWANTED))
    line = LINE_BREAK.sub("\n", line.translate(plain()))
    line = SURROGATES.sub(lambda match: paired(match[0]), line)
    line = TERMINAL_ESCAPE.sub("", line).translate(dict.fromkeys(UNWANTED))
    return unicodedata.normalize("NFC", line)


def resolved(match: re.Match[str]) -> str:
    entity = match[0]
    if entity.startswith("&#"):
        text = html.unescape(entity)
        return entity if ";" in text else text
    return entities().get(entity, entity)


def paired(surrogates: str) -> str:
    """Pairs as the one character they stand for, single ones as U+FFFD."""
    return surrogates.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
