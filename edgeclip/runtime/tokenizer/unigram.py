"""The unigram language model of SentencePiece (Kudo, 2018): of all ways to cut a text into pieces the likeliest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from edgeclip.runtime.tokenizer.component import Component

UNKNOWN_PENALTY = 10.0  # below the least likely piece


class Unigram(Component, frozen=True, tag=True):
    """vocab: pieces with their log-probabilities; ids are places in it."""

    vocab: Annotated[list[tuple[str, float]], msgspec.Meta(min_length=1)]
    unk_id: int | None = None
    byte_fallback: bool = False

    def __post_init__(self) -> None:
        if self.unk_id is None or not 0 <= self.unk_id < len(self.vocab):
            raise ValueError("unk_id is not in the vocabulary")

    @property
    def unknown(self) -> int | None:
        return self.unk_id

    def encoder(self) -> Callable[[str], list[int]]:
        return Lattice(self).ids


class Lattice:
    """Viterbi over the pieces of a vocabulary."""

    def __init__(self, model: Unigram) -> None:
        assert model.unk_id is not None  # __post_init__ saw to it
        self._unknown = model.unk_id
        self._byte_fallback = model.byte_fallback
        self._pieces = {piece: (place, score) for place, (piece, score) in enumerate(model.vocab)}
        self._longest = max(len(piece) for piece in self._pieces)
        self._unknown_score = min(score for _, score in model.vocab) - UNKNOWN_PENALTY
        self._starts = {piece[:2] for piece in self._pieces} | {piece[:1] for piece in self._pieces}

    def ids(self, word: str) -> list[int]:
        n = len(word)
        best = [float("-inf")] * (n + 1)
        best[0] = 0.0
        came: list[tuple[int, int | None]] = [(0, None)] * (n + 1)  # where the piece that ends here begins, and its id
        for start in range(n):
            base = best[start]
            single = False
            if word[start] in self._starts:
                for end in range(start + 1, min(n, start + self._longest) + 1):
                    if end == start + 2 and word[start:end] not in self._starts:
                        break
                    found = self._pieces.get(word[start:end])
                    if found is None:
                        continue
                    single = single or end == start + 1
                    if base + found[1] > best[end]:
                        best[end], came[end] = base + found[1], (start, found[0])
            if not single and base + self._unknown_score > best[start + 1]:
                best[start + 1], came[start + 1] = base + self._unknown_score, (start, None)
        pieces: list[tuple[int, int, int | None]] = []
        end = n
        while end > 0:
            start, piece = came[end]
            if piece is None and pieces and pieces[-1][2] is None:
                pieces[-1] = (start, pieces[-1][1], None)  # unknowns next to each other are one
            else:
                pieces.append((start, end, piece))
            end = start
        return [one for start, end, piece in reversed(pieces) for one in self._of(word[start:end], piece)]

    def _of(self, text: str, piece: int | None) -> list[int]:
        if piece is not None:
            return [piece]
        if self._byte_fallback:
            found = [self._pieces.get(f"<0x{octet:02X}>") for octet in text.encode("utf-8")]
            if all(found):
                return [octet[0] for octet in found if octet is not None]
        return [self._unknown]
