"""Text to token ids, from a `tokenizer.json` as Hugging Face's `tokenizers` writes it, without that library.

Read so far: WordPiece with BERT's normalizer, pre-tokenizer and [CLS] ... [SEP] template. Each kind of component is one
class here, listed in the union it belongs to; a file that names any other is refused. Ids are those of the library,
token for token, but for letters newer than this Python's Unicode tables, whose lower case it cannot know.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from edgeclip.errors import DataError

MAX_FILE_BYTES = 64 << 20

Id = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class _Component(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the file. An unknown field is an unknown behaviour, so it is refused."""


class BertNormalizer(_Component, frozen=True, tag=True):
    """Drops control characters, sets ideographs apart, strips accents, lower-cases, in this order."""

    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None  # None: where `lowercase` is set, as in BERT
    lowercase: bool = True

    def apply(self, text: str) -> str:
        if self.clean_text:
            text = "".join(" " if _is_space(c) else c for c in text if not _is_removed(c))
        if self.handle_chinese_chars:
            text = "".join(f" {c} " if _is_ideograph(c) else c for c in text)
        if self.lowercase if self.strip_accents is None else self.strip_accents:
            text = "".join(c for c in unicodedata.normalize("NFD", text) if not _is_mark(c))
        if self.lowercase:
            text = "".join(c.lower() for c in text)  # not text.lower(): that looks at a final sigma's neighbours
        return text


class BertPreTokenizer(_Component, frozen=True, tag=True):
    """Words between white space; every punctuation mark is a word of its own."""

    def split(self, text: str) -> Iterator[str]:
        start = 0
        for end, character in enumerate(text):
            if (punctuation := _is_punctuation(character)) or _is_space(character):
                if start < end:
                    yield text[start:end]
                if punctuation:
                    yield character
                start = end + 1
        if start < len(text):
            yield text[start:]


class WordPiece(_Component, frozen=True, tag=True):
    """Longest piece first, from the left; a word that does not come out even is unknown as a whole."""

    vocab: dict[str, Id]
    unk_token: str = "[UNK]"
    continuing_subword_prefix: str = "##"
    max_input_chars_per_word: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100

    def __post_init__(self) -> None:
        if self.unk_token not in self.vocab:
            raise ValueError(f"the unknown token {self.unk_token!r} is not in the vocabulary")

    def ids(self, word: str) -> list[int]:
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


class _SpecialToken(_Component, frozen=True):
    id: str
    type_id: int = 0


class _Sequence(_Component, frozen=True):
    id: Literal["A", "B"]
    type_id: int = 0


class _Piece(_Component, frozen=True):
    """One place of a template: a special token, or the text."""

    special: _SpecialToken | None = msgspec.field(name="SpecialToken", default=None)
    sequence: _Sequence | None = msgspec.field(name="Sequence", default=None)


class _TemplateIds(_Component, frozen=True):
    id: str
    ids: tuple[Id, ...]
    tokens: tuple[str, ...] = ()


class TemplateProcessing(_Component, frozen=True, tag=True):
    """Special tokens around the text, written as a template."""

    single: tuple[_Piece, ...]
    special_tokens: dict[str, _TemplateIds]
    pair: tuple[_Piece, ...] = ()  # for two texts, which nobody asks for here

    def __post_init__(self) -> None:
        self.around()

    def around(self) -> tuple[list[int], list[int]]:
        """Ids before and after the text."""
        sides: tuple[list[int], list[int]] = ([], [])
        texts = 0
        for piece in self.single:
            if piece.sequence is not None and piece.special is None and piece.sequence.id == "A":
                texts += 1
            elif piece.special is not None and piece.sequence is None and piece.special.id in self.special_tokens:
                sides[texts > 0].extend(self.special_tokens[piece.special.id].ids)
            else:
                raise ValueError("the template for one text is made of its sequence A and declared special tokens")
        if texts != 1:
            raise ValueError("the template for one text must hold sequence A once")
        return sides


class BertProcessing(_Component, frozen=True, tag=True):
    """[CLS] before the text, [SEP] after it."""

    sep: tuple[str, Id]
    cls: tuple[str, Id]

    def around(self) -> tuple[list[int], list[int]]:
        return [self.cls[1]], [self.sep[1]]


class _AddedToken(_Component, frozen=True):
    """A token found in the raw text before anything else looks at it, such as "[SEP]"."""

    id: Id
    content: NonEmpty
    special: bool
    single_word: Literal[False] = False
    lstrip: Literal[False] = False
    rstrip: Literal[False] = False
    normalized: Literal[False] = False


class _Truncation(_Component, frozen=True):
    """The file's own length rules give way to the manifest's context_length; only the side matters."""

    direction: Literal["Right"] = "Right"
    max_length: int = 0
    strategy: Any = None
    stride: int = 0


class _Padding(_Component, frozen=True):
    direction: Literal["Right"] = "Right"
    strategy: Any = None
    pad_to_multiple_of: int | None = None
    pad_id: int = 0
    pad_type_id: int = 0
    pad_token: str = ""


class _File(_Component, frozen=True):
    model: WordPiece
    normalizer: BertNormalizer
    pre_tokenizer: BertPreTokenizer
    post_processor: TemplateProcessing | BertProcessing
    added_tokens: tuple[_AddedToken, ...] = ()
    truncation: _Truncation | None = None
    padding: _Padding | None = None
    decoder: Any = None  # from ids to text: never needed here
    version: Literal["1.0"] = "1.0"


class Tokenizer:
    """Text -> ids. Build one with load_tokenizer()."""

    def __init__(self, file: _File) -> None:
        self._file = file
        self._before, self._after = file.post_processor.around()
        self._added = {token.content: token.id for token in file.added_tokens}
        longest_first = sorted(self._added, key=len, reverse=True)
        self._split_added = (
            re.compile("(" + "|".join(map(re.escape, longest_first)) + ")").split if longest_first else None
        )

    def encode(self, text: str) -> list[int]:
        """All ids of `text`, special tokens included, however many there are."""
        return [*self._before, *self._body(text), *self._after]

    def encode_batch(self, texts: Sequence[str], context_length: int, pad_id: int) -> npt.NDArray[np.int32]:
        """Ids [N, context_length] int32: cut at the right before the final special tokens, padded with `pad_id`.

        Raises DataError where the context is too short to hold any text.
        """
        room = context_length - len(self._before) - len(self._after)
        if room < 1:
            raise DataError(
                f"a context of {context_length} ids has no room for text beside the special tokens",
                "set text.context_length to what the text engine was built for, and build the bundle again",
            )
        batch = np.full((len(texts), context_length), pad_id, dtype=np.int32)
        for row, text in zip(batch, texts, strict=True):
            ids = [*self._before, *self._body(text)[:room], *self._after]
            row[: len(ids)] = ids
        return batch

    def _body(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in self._split_added(text) if self._split_added else (text,):
            if part in self._added:
                ids.append(self._added[part])
                continue
            for word in self._file.pre_tokenizer.split(self._file.normalizer.apply(part)):
                ids.extend(self._file.model.ids(word))
        return ids


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Read a tokenizer.json. Raises DataError naming the component that is damaged or not supported."""
    try:
        with Path(path).open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DataError(
            f"cannot read the tokenizer {path}: {error.strerror}", "build or copy the bundle again"
        ) from error
    if len(raw) > MAX_FILE_BYTES:
        raise DataError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB", "this is not a tokenizer.json")
    try:
        return Tokenizer(msgspec.json.decode(raw, type=_File))
    except msgspec.ValidationError as error:
        raise DataError(
            f"{path}: {error}",
            "this edgeclip reads WordPiece with BertNormalizer, BertPreTokenizer and a [CLS] text [SEP] template",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: {error}", "the file is damaged: build or copy the bundle again") from error


def _ranges(text: str) -> tuple[tuple[int, int], ...]:
    pairs = (item.partition("-") for item in text.split())
    return tuple((int(first, 16), int(last or first, 16)) for first, _, last in pairs)


def _within(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)


# The library takes marks, punctuation and format characters from the tables of Unicode 8. What later versions
# added or re-classified among these (up to 15.1) is plain text to it. Characters in the gaps that a range spans
# are none of the three, so spanning them changes nothing.
_PLAIN_IN_UNICODE_8 = _ranges("""
61d 7fd 890-8e2 9fd-9fe a76 afa-aff b55 c04-c3c c77 c84 d00 d3b-d3c d81 eba ece 180f-1886 1abf-1ace 1b7d-1b7e 1df6-1dfb
2e43-2e5d a82c a8c5 a8ff a9bd 10d24-10f89 11070-11074 110c2-110cd 111cf 1123e-11241 1133b 11438-1145e 11660-1166c
116b9 1182f-11fff 12ff1-13455 16e97-16f4f 16fe2-16fe4 1cf00-1cf46 1e000-1e4ef 1e944-1e95f""")
_PUNCTUATION_IN_UNICODE_8 = {"\u166d", "\U000111c9"}
_MARKS_IN_UNICODE_8 = {"\u1734"}
# The CJK blocks as the library lists them, its typing error at U+2B920 (for U+2B820) included.
_IDEOGRAPHS = _ranges("3400-4dbf 4e00-9fff f900-faff 20000-2a6df 2a700-2b73f 2b740-2b81f 2b920-2ceaf 2f800-2fa1f")
_ASCII_PUNCTUATION = set("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_INFORMATION_SEPARATORS = set("\x1c\x1d\x1e\x1f")  # white space to Python alone


@lru_cache(4096)
def _category(character: str) -> str:
    """Unicode 8's general category, as far as this file looks at it."""
    if character in _PUNCTUATION_IN_UNICODE_8:
        return "Po"
    if character in _MARKS_IN_UNICODE_8:
        return "Mn"
    return "Lo" if _within(ord(character), _PLAIN_IN_UNICODE_8) else unicodedata.category(character)


def _is_space(character: str) -> bool:
    return character.isspace() and character not in _INFORMATION_SEPARATORS


def _is_removed(character: str) -> bool:
    if character in "\t\n\r":
        return False
    return character == "\ufffd" or _category(character) in ("Cc", "Cf", "Co")


def _is_mark(character: str) -> bool:
    return character > "\x7f" and _category(character) == "Mn"


def _is_punctuation(character: str) -> bool:
    if character <= "\x7f":
        return character in _ASCII_PUNCTUATION
    return _category(character).startswith("P")


def _is_ideograph(character: str) -> bool:
    return character >= "\u3400" and _within(ord(character), _IDEOGRAPHS)
