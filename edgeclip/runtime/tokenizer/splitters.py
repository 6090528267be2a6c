"""How a normalized text is cut into the words that the model then takes one by one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Literal

from edgeclip.runtime.tokenizer.component import Component
from edgeclip.runtime.tokenizer.normalizers import SPACE, Pattern
from edgeclip.runtime.tokenizer.wordpiece import BertPreTokenizer

Splitter = Callable[[str], Iterable[str]]

# The words of CLIP: contractions, runs of letters, single digits, runs of anything else that is not white space.
CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
CLIP_EXPRESSION = r"<\|startoftext\|>|<\|endoftext\|>|" + CLIP_WORDS
CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
# A mark whose lower case is a letter: regardless of case it is neither letter nor other, and falls away.
NEITHER = "\u0345"
BLANK = re.compile(f"[{SPACE}]+")


class ClipWords(Component, frozen=True, tag=True):
    """The words of CLIP's own tokenizer, without regard to case, and its special tokens where a word may begin."""

    special: tuple[str, ...] = ()

    def splitter(self) -> Splitter:
        whole = re.compile("|".join([*map(re.escape, self.special), CONTRACTIONS]), re.IGNORECASE)
        return lambda text: clip_words(text.replace(NEITHER, " "), whole)


class Split(Component, frozen=True, tag=True):
    """CLIP's words as the library writes them, or a cut after every space (which Gemma's normalizer has removed)."""

    pattern: Pattern
    behavior: Literal["Removed", "MergedWithPrevious"]
    invert: bool = False

    def __post_init__(self) -> None:
        words = self.pattern.expression in (CLIP_WORDS, CLIP_EXPRESSION) and self.behavior == "Removed" and self.invert
        after_space = self.pattern.literal == " " and self.behavior == "MergedWithPrevious" and not self.invert
        if not words and not after_space:
            raise ValueError("Split is known with CLIP's expression, or after spaces")

    def splitter(self) -> Splitter:
        if self.pattern.literal is not None:
            return lambda text: re.findall("[^ ]* |[^ ]+", text)
        special = r"<\|startoftext\|>|<\|endoftext\|>|" if self.pattern.expression == CLIP_EXPRESSION else ""
        whole = re.compile(special + CONTRACTIONS)
        return lambda text: clip_words(text, whole)


class ByteLevel(Component, frozen=True, tag=True):
    """Every word becomes its UTF-8 bytes, each written as a letter. use_regex: would cut CLIP's words no further."""

    add_prefix_space: Literal[False] = False
    trim_offsets: bool = True
    use_regex: bool = True

    def splitter(self) -> Splitter:
        return lambda text: ["".join(BYTE_LETTERS[octet] for octet in text.encode("utf-8", "replace"))]


class WhitespaceSplit(Component, frozen=True, tag=True):
    def splitter(self) -> Splitter:
        return lambda text: filter(None, BLANK.split(text))


class Metaspace(Component, frozen=True, tag=True):
    """Spaces become a visible sign, which also stands before the text; with `split` every word begins with it."""

    replacement: str = "\u2581"
    prepend_scheme: Literal["always", "never", "first"] = "always"
    split: bool = True

    def splitter(self) -> Splitter:
        sign = self.replacement
        pieces = re.compile(f"{re.escape(sign)}?[^{re.escape(sign)}]+|{re.escape(sign)}")

        def words(text: str) -> Iterable[str]:
            text = text.replace(" ", sign)
            if self.prepend_scheme != "never" and not text.startswith(sign):
                text = sign + text
            return pieces.findall(text) if self.split else (text,)

        return words


Step = BertPreTokenizer | ClipWords | Split | ByteLevel | WhitespaceSplit | Metaspace


class Sequence(Component, frozen=True, tag=True):
    pretokenizers: tuple[Step, ...]

    def __post_init__(self) -> None:
        byte_level = [isinstance(step, ByteLevel) for step in self.pretokenizers]
        if any(byte_level) and not (byte_level[-1] and isinstance(self.pretokenizers[0], (ClipWords, Split))):
            raise ValueError("ByteLevel is known after CLIP's words alone")

    def splitter(self) -> Splitter:
        splitters = [step.splitter() for step in self.pretokenizers]

        def words(text: str) -> Iterable[str]:
            parts: Iterable[str] = (text,)
            for split in splitters:
                parts = [word for part in parts for word in split(part)]
            return parts

        return words


PreTokenizer = BertPreTokenizer | Split | WhitespaceSplit | Metaspace | Sequence


def clip_words(text: str, whole: re.Pattern[str]) -> Iterator[str]:
    """`whole`: what is one word wherever a word may begin."""
    place = 0
    while place < len(text):
        if found := whole.match(text, place):
            yield found[0]
            place = found.end()
            continue
        kind = kind_of(text[place])
        end = place + 1
        if kind != DIGIT:
            while end < len(text) and kind_of(text[end]) == kind:
                end += 1
        if kind != SPACES:
            yield text[place:end]
        place = end


LETTER, DIGIT, SPACES, OTHER = "L", "N", "Z", ""


@lru_cache(4096)
def kind_of(character: str) -> str:
    if BLANK.match(character):
        return SPACES
    category = unicodedata.category(character)[0]
    return category if category in (LETTER, DIGIT) else OTHER


def byte_letters() -> list[str]:
    """A printable letter for every byte: itself where it is one, else from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(octet if octet in printable else next(others)) for octet in range(256)]


BYTE_LETTERS = byte_letters()
