"""Text to token ids, from a `tokenizer.json` as Hugging Face's `tokenizers` writes it, without that library.

Read are BERT's WordPiece, byte-pair encoding as CLIP and Gemma (SigLIP2) have it, and SentencePiece's unigram model
(SigLIP, T5), with what stands around them there; and a few steps of our own, for what open_clip and SigLIP do in Python
before a tokenizer sees the text (normalizers.py). Each kind of component is one class, listed in the union it belongs
to; a file that names any other is refused. Ids are those of the library, token for token, but for letters newer than
this Python's Unicode tables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from edgeclip.errors import DataError
from edgeclip.runtime.tokenizer.bpe import BPE
from edgeclip.runtime.tokenizer.component import Component, Id, NonEmpty
from edgeclip.runtime.tokenizer.normalizers import SPACE, Normalizer
from edgeclip.runtime.tokenizer.processors import BertProcessing, RobertaProcessing, TemplateProcessing
from edgeclip.runtime.tokenizer.splitters import PreTokenizer
from edgeclip.runtime.tokenizer.unigram import Unigram
from edgeclip.runtime.tokenizer.wordpiece import WordPiece

MAX_FILE_BYTES = 64 << 20


class AddedToken(Component, frozen=True):
    """A token found in the text before the model looks at it, such as "[SEP]".

    normalized: it is looked for, normalized itself, in the normalized text. lstrip, rstrip: white space beside it is
    part of it.
    """

    id: Id
    content: NonEmpty
    special: bool
    single_word: Literal[False] = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False


class Truncation(Component, frozen=True):
    """The file's own length rules give way to the manifest's context_length; only the side matters."""

    direction: Literal["Right"] = "Right"
    max_length: int = 0
    strategy: Any = None
    stride: int = 0


class Padding(Component, frozen=True):
    """Which id pads, the manifest says; on which side, the file."""

    direction: Literal["Right", "Left"] = "Right"
    strategy: Any = None
    pad_to_multiple_of: int | None = None
    pad_id: int = 0
    pad_type_id: int = 0
    pad_token: str = ""


class File(Component, frozen=True):
    """clean (ours): what is done to the whole text before added tokens are looked for."""

    model: WordPiece | BPE | Unigram
    clean: Normalizer | None = None
    normalizer: Normalizer | None = None
    pre_tokenizer: PreTokenizer | None = None
    post_processor: TemplateProcessing | BertProcessing | RobertaProcessing | None = None
    added_tokens: tuple[AddedToken, ...] = ()
    truncation: Truncation | None = None
    padding: Padding | None = None
    decoder: Any = None  # from ids to text: never needed here
    version: Literal["1.0"] = "1.0"


class Tokenizer:
    """Text -> ids. Build one with load_tokenizer()."""

    def __init__(self, file: File) -> None:
        self._clean: Callable[[str], str] = file.clean.change() if file.clean else str
        self._normalize: Callable[[str], str] = file.normalizer.change() if file.normalizer else str
        self._split: Callable[[str], Iterable[str]] = file.pre_tokenizer.splitter() if file.pre_tokenizer else _whole
        self._ids = file.model.encoder()
        self._unknown = file.model.unknown
        self._before, self._after = file.post_processor.around() if file.post_processor else ([], [])
        self._left = file.padding is not None and file.padding.direction == "Left"
        self._raw = Finder([token for token in file.added_tokens if not token.normalized], str)
        self._normalized = Finder([token for token in file.added_tokens if token.normalized], self._normalize)

    def encode(self, text: str) -> list[int]:
        """All ids of `text`, special tokens included, however many there are."""
        return [*self._before, *self._body(text), *self._after]

    def knows(self, text: str) -> bool:
        """Whether any of `text` is in the vocabulary. All texts that are not are one and the same to a model."""
        return any(found != self._unknown for found in self._body(text))

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
            row[context_length - len(ids) if self._left else 0 :][: len(ids)] = ids
        return batch

    def _body(self, text: str) -> list[int]:
        ids: list[int] = []
        for part, added in self._raw.parts(self._clean(text)):
            if added is not None:
                ids.append(added)
                continue
            for piece, found in self._normalized.parts(self._normalize(part)):
                if found is not None:
                    ids.append(found)
                    continue
                for word in self._split(piece):
                    ids.extend(self._ids(word))
        return ids


class Finder:
    """Finds added tokens in a text, the longest first."""

    def __init__(self, tokens: Sequence[AddedToken], normalize: Callable[[str], str]) -> None:
        self._known: list[int] = []
        expressions: list[str] = []
        for token in sorted(tokens, key=lambda token: len(token.content), reverse=True):
            left = f"[{SPACE}]*" if token.lstrip else ""
            right = f"[{SPACE}]*" if token.rstrip else ""
            expressions.append(f"({left}{re.escape(normalize(token.content))}{right})")
            self._known.append(token.id)
        self._expression = re.compile("|".join(expressions)) if expressions else None

    def parts(self, text: str) -> Iterable[tuple[str, int | None]]:
        """Parts of the text with the id of the added token that they are, None for all others."""
        start = 0
        for match in self._expression.finditer(text) if self._expression else ():
            if match.start() > start:
                yield text[start : match.start()], None
            yield match[0], self._known[(match.lastindex or 1) - 1]
            start = match.end()
        if start < len(text) or not text:
            yield text[start:], None


def _whole(text: str) -> Iterable[str]:
    return (text,) if text else ()


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
        return Tokenizer(msgspec.json.decode(raw, type=File))
    except msgspec.ValidationError as error:
        raise DataError(
            f"{path}: {error}",
            "this edgeclip reads BERT's WordPiece, CLIP's and Gemma's BPE, and SentencePiece's unigram model",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: {error}", "the file is damaged: build or copy the bundle again") from error
