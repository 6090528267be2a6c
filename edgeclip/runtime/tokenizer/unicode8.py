"""Characters as BERT's normalizer sees them: by the tables of Unicode 8, which its library was built with."""

from __future__ import annotations

import unicodedata
from functools import lru_cache


def ranges(text: str) -> tuple[tuple[int, int], ...]:
    pairs = (item.partition("-") for item in text.split())
    return tuple((int(first, 16), int(last or first, 16)) for first, _, last in pairs)


def within(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)


# The library takes marks, punctuation and format characters from the tables of Unicode 8. What later versions
# added or re-classified among these (up to 15.1) is plain text to it. Characters in the gaps that a range spans
# are none of the three, so spanning them changes nothing.
_PLAIN_IN_UNICODE_8 = ranges("""
61d 7fd 890-8e2 9fd-9fe a76 afa-aff b55 c04-c3c c77 c84 d00 d3b-d3c d81 eba ece 180f-1886 1abf-1ace 1b7d-1b7e 1df6-1dfb
2e43-2e5d a82c a8c5 a8ff a9bd 10d24-10f89 11070-11074 110c2-110cd 111cf 1123e-11241 1133b 11438-1145e 11660-1166c
116b9 1182f-11fff 12ff1-13455 16e97-16f4f 16fe2-16fe4 1cf00-1cf46 1e000-1e4ef 1e944-1e95f""")
_PUNCTUATION_IN_UNICODE_8 = {"\u166d", "\U000111c9"}
_MARKS_IN_UNICODE_8 = {"\u1734"}
# The CJK blocks as the library lists them, its typing error at U+2B920 (for U+2B820) included.
_IDEOGRAPHS = ranges("3400-4dbf 4e00-9fff f900-faff 20000-2a6df 2a700-2b73f 2b740-2b81f 2b920-2ceaf 2f800-2fa1f")
_ASCII_PUNCTUATION = set("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_INFORMATION_SEPARATORS = set("\x1c\x1d\x1e\x1f")  # white space to Python alone


@lru_cache(4096)
def category(character: str) -> str:
    """Unicode 8's general category, as far as this file looks at it."""
    if character in _PUNCTUATION_IN_UNICODE_8:
        return "Po"
    if character in _MARKS_IN_UNICODE_8:
        return "Mn"
    return "Lo" if within(ord(character), _PLAIN_IN_UNICODE_8) else unicodedata.category(character)


def is_space(character: str) -> bool:
    return character.isspace() and character not in _INFORMATION_SEPARATORS


def is_removed(character: str) -> bool:
    if character in "\t\n\r":
        return False
    return character == "\ufffd" or category(character) in ("Cc", "Cf", "Co")


def is_mark(character: str) -> bool:
    return character > "\x7f" and category(character) == "Mn"


def is_punctuation(character: str) -> bool:
    if character <= "\x7f":
        return character in _ASCII_PUNCTUATION
    return category(character).startswith("P")


def is_ideograph(character: str) -> bool:
    return character >= "\u3400" and within(ord(character), _IDEOGRAPHS)
