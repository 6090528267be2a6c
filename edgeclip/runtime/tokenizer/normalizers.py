"""What is done to a whole text before it is cut into words."""

from __future__ import annotations

import html
import re
import string
import unicodedata
from collections.abc import Callable
from typing import Annotated

import msgspec

from edgeclip.runtime.tokenizer.component import Component
from edgeclip.runtime.tokenizer.fixtext import fix_text
from edgeclip.runtime.tokenizer.precompiled import Precompiled
from edgeclip.runtime.tokenizer.wordpiece import BertNormalizer

Change = Callable[[str], str]

# White space as Unicode lists it: str.isspace() also holds the four information separators.
SPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
EXPRESSIONS = {r"\s+": f"[{SPACE}]+", " {2,}": " {2,}", r"\s{2,}": f"[{SPACE}]{{2,}}"}
# Marks with a combining class that came with Unicode 10 to 14.
NEWER_MARKS = "".join(
    f"{chr(first)}-{chr(last)}"
    for first, last in (
        (0x7FD, 0x7FD), (0x898, 0x89F), (0x8CA, 0x8D3), (0x9FE, 0x9FE), (0xC3C, 0xC3C), (0xD3B, 0xD3C), (0xEBA, 0xEBA),
        (0x1715, 0x1715), (0x1ABF, 0x1ACE), (0x1DF6, 0x1DFA), (0xA82C, 0xA82C), (0x10D24, 0x10D27), (0x10EAB, 0x10EAC),
        (0x10F46, 0x10F50), (0x10F82, 0x10F85), (0x11070, 0x11070), (0x1133B, 0x1133B), (0x1145E, 0x1145E),
        (0x11839, 0x1183A), (0x1193D, 0x1193E), (0x11943, 0x11943), (0x119E0, 0x119E0), (0x11A34, 0x11A34),
        (0x11A47, 0x11A47), (0x11A99, 0x11A99), (0x11D42, 0x11D42), (0x11D44, 0x11D45), (0x11D97, 0x11D97),
        (0x16FF0, 0x16FF1), (0x1E130, 0x1E136), (0x1E2AE, 0x1E2AE), (0x1E2EC, 0x1E2EF),
    )
)  # fmt: skip
PUNCTUATION = str.maketrans("", "", string.punctuation)


class NFC(Component, frozen=True, tag=True):
    """By the library's tables, which are of Unicode 9: a mark that is newer stays where it stands."""

    def change(self) -> Change:
        newer = re.compile(f"([{NEWER_MARKS}])")
        return lambda text: "".join(unicodedata.normalize("NFC", part) for part in newer.split(text))


class Lowercase(Component, frozen=True, tag=True):
    """Letter by letter: a final sigma is a sigma like any other."""

    def change(self) -> Change:
        return lambda text: "".join(map(str.lower, text))


class Strip(Component, frozen=True, tag=True):
    strip_left: bool = True
    strip_right: bool = True

    def change(self) -> Change:
        left = re.compile(f"^[{SPACE}]+") if self.strip_left else None
        right = re.compile(f"[{SPACE}]+\\Z") if self.strip_right else None

        def strip(text: str) -> str:
            text = left.sub("", text) if left else text
            return right.sub("", text) if right else text

        return strip


class Pattern(Component, frozen=True):
    """A text, or one of the few regular expressions that tokenizers of CLIP and SigLIP use."""

    literal: Annotated[str, msgspec.Meta(min_length=1)] | None = msgspec.field(name="String", default=None)
    expression: str | None = msgspec.field(name="Regex", default=None)

    def compiled(self) -> re.Pattern[str]:
        if self.literal is not None and self.expression is None:
            return re.compile(re.escape(self.literal))
        if self.literal is None and self.expression in EXPRESSIONS:
            return re.compile(EXPRESSIONS[self.expression])
        raise ValueError(f"the pattern {self.expression!r} is not one of {', '.join(EXPRESSIONS)}")


class Replace(Component, frozen=True, tag=True):
    pattern: Pattern
    content: str

    def __post_init__(self) -> None:
        self.pattern.compiled()

    def change(self) -> Change:
        pattern, content = self.pattern.compiled(), self.content
        return lambda text: pattern.sub(lambda _: content, text)


class Prepend(Component, frozen=True, tag=True):
    prepend: str

    def change(self) -> Change:
        return lambda text: self.prepend + text if text else text


# -- ours: what open_clip and SigLIP do in Python before their tokenizers see the text ---------------------------------


class CleanText(Component, frozen=True, tag=True):
    """open_clip's basic_clean: broken Unicode mended, HTML entities resolved twice, ends stripped."""

    def change(self) -> Change:
        return lambda text: html.unescape(html.unescape(fix_text(text))).strip()


class CollapseSpace(Component, frozen=True, tag=True):
    """Runs of white space become one space, none at the ends."""

    def change(self) -> Change:
        return lambda text: " ".join(text.split())


class LowercaseText(Component, frozen=True, tag=True):
    """As one text: a sigma at the end of a word is a final one."""

    def change(self) -> Change:
        return str.lower


class MarkStart(Component, frozen=True, tag=True):
    """A sign before the text, be it empty; signs that it held become spaces."""

    sign: str

    def change(self) -> Change:
        return lambda text: self.sign + text.replace(self.sign, " ")


class Canonicalize(Component, frozen=True, tag=True):
    """SigLIP's canonical form: no ASCII punctuation, lower case, single spaces. underscores: they become spaces."""

    underscores: bool
    lowercase: bool = True

    def change(self) -> Change:
        def canonical(text: str) -> str:
            text = text.replace("_", " ") if self.underscores else text
            text = text.translate(PUNCTUATION)
            return " ".join((text.lower() if self.lowercase else text).split())

        return canonical


Step = (
    BertNormalizer
    | NFC
    | Lowercase
    | Strip
    | Replace
    | Prepend
    | Precompiled
    | CleanText
    | CollapseSpace
    | LowercaseText
    | MarkStart
    | Canonicalize
)


class Sequence(Component, frozen=True, tag=True):
    normalizers: tuple[Step, ...]

    def change(self) -> Change:
        changes = [step.change() for step in self.normalizers]

        def all_of_them(text: str) -> str:
            for change in changes:
                text = change(text)
            return text

        return all_of_them


Normalizer = Step | Sequence
