"""BERT's tokenizer: its normalizer, its words, its pieces."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

import msgspec

from edgeclip.runtime.tokenizer.component import Component, Id
from edgeclip.runtime.tokenizer.unicode8 import is_ideograph, is_mark, is_punctuation, is_removed, is_space


class BertNormalizer(Component, frozen=True, tag=True):
    """Drops control characters, sets ideographs apart, strips accents, lower-cases, in this order."""

    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None  # None: where `lowercase` is set, as in BERT
    lowercase: bool = True

    def change(self) -> Callable[[str], str]:
        return self._apply

    def _apply(self, text: str) -> str:
        if self.clean_text:
            text = "".join(" " if is_space(c) else c for c in text if not is_removed(c))
        if self.handle_chinese_chars:
            text = "".join(f" {c} " if is_ideograph(c) else c for c in text)
        if self.lowercase if self.strip_accents is None else self.strip_accents:
            text = "".join(c for c in unicodedata.normalize("NFD", text) if not is_mark(c))
        if self.lowercase:
            text = "".join(c.lower() for c in text)  # not text.lower(): that looks at a final sigma's neighbours
        return text


class BertPreTokenizer(Component, frozen=True, tag=True):
    """Words between white space; every punctuation mark is a word of its own."""

    def splitter(self) -> Callable[[str], Iterable[str]]:
        return self._split

    def _split(self, text: str) -> Iterator[str]:
        start = 0
        for end, character in enumerate(text):
            if (punctuation := is_punctuation(character)) or is_space(character):
                if start < end:
                    yield text[start:end]
                if punctuation:
                    yield character
                start = end + 1
        if start < len(text):
            yield text[start:]


class WordPiece(Component, frozen=True, tag=True):
    """Longest piece first, from the left; a word that does not come out even is unknown as a whole."""

    vocab: dict[str, Id]
    unk_token: str = "[UNK]"
    continuing_subword_prefix: str = "##"
    max_input_chars_per_word: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100

    def __post_init__(self) -> None:
        if self.unk_token not in self.vocab:
            raise ValueError(f"the unknown token {self.unk_token!r} is not in the vocabulary")

    @property
    def unknown(self) -> int:
        return self.vocab[self.unk_token]

    def encoder(self) -> Callable[[str], list[int]]:
        return self._ids

    def _ids(self, word: str) -> list[int]:
        unknown = [self.vocab[self.unk_token]]
        if len(word) > self.max_input_chars_per_word:
            return unknown
        found: list[int] = []
        start = 0
        while start < len(word):
            prefix = self.continuing_subword_prefix if start else ""
            for end in range(len(word), start, -1):
                if (piece := self.vocab.get(prefix + word[start:end])) is not None:
                    found.append(piece)
                    start = end
                    break
            else:
                return unknown
        return found
