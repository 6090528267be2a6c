"""Byte-pair encoding (Sennrich et al., 2016), as CLIP (byte-level, `</w>`) and Gemma (byte fallback) have it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Literal

from edgeclip.runtime.tokenizer.component import Component, Id

NOTHING = -1  # a symbol that was merged into its left neighbour


class BPE(Component, frozen=True, tag=True):
    """Symbols merged in the order in which the merges were learned.

    end_of_word_suffix: what the last symbol of a word carries. byte_fallback: a character that is no symbol becomes its
    UTF-8 bytes, written <0xE2>. fuse_unk: unknown characters next to each other are one unknown. whole (ours): words
    that are a symbol as they are.
    """

    vocab: dict[str, Id]
    merges: list[tuple[str, str] | str]
    unk_token: str | None = None
    end_of_word_suffix: str | None = None
    byte_fallback: bool = False
    fuse_unk: bool = False
    ignore_merges: bool = False
    continuing_subword_prefix: Literal[""] | None = None
    dropout: None = None
    whole: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.unk_token is not None and self.unk_token not in self.vocab:
            raise ValueError(f"the unknown token {self.unk_token!r} is not in the vocabulary")
        for word in self.whole:
            if word not in self.vocab:
                raise ValueError(f"{word!r} is not in the vocabulary")
        for rank, merge in enumerate(self.merges):
            for part in (*pair_of(merge), "".join(pair_of(merge))):
                if part not in self.vocab:
                    raise ValueError(f"{part!r} of merge {rank} is not in the vocabulary")

    @property
    def unknown(self) -> int | None:
        return None if self.unk_token is None else self.vocab[self.unk_token]

    def encoder(self) -> Callable[[str], list[int]]:
        return Merger(self).ids


class Merger:
    """The merges of a BPE, by the ids they are of."""

    def __init__(self, model: BPE) -> None:
        self._model = model
        self._vocab = model.vocab
        self._ranks: dict[int, int] = {}
        self._made: list[int] = []
        for rank, merge in enumerate(model.merges):
            first, second = pair_of(merge)
            self._ranks[self._vocab[first] << 32 | self._vocab[second]] = rank
            self._made.append(self._vocab[first + second])

    def ids(self, word: str) -> list[int]:
        if word in self._model.whole or (self._model.ignore_merges and word in self._vocab):
            return [self._vocab[word]]
        return self._merged(self._symbols(word))

    def _symbols(self, word: str) -> list[int]:
        model, vocab = self._model, self._vocab
        suffix = model.end_of_word_suffix or ""
        symbols: list[int] = []
        unknown = False
        for place, character in enumerate(word):
            symbol = character + suffix if place == len(word) - 1 else character
            if (known := vocab.get(symbol)) is not None:
                symbols.append(known)
                unknown = False
                continue
            octets = [vocab.get(f"<0x{octet:02X}>") for octet in symbol.encode("utf-8")] if model.byte_fallback else []
            found = [octet for octet in octets if octet is not None]
            if found and len(found) == len(octets):
                symbols += found
                unknown = False
            elif model.unk_token is not None:
                if not (unknown and model.fuse_unk):
                    symbols.append(vocab[model.unk_token])
                unknown = True
        return symbols

    def _merged(self, symbols: list[int]) -> list[int]:
        """The lowest rank first, among equals the leftmost: one merge at a time, as the library's queue does it."""
        ranks = self._ranks
        after = [*range(1, len(symbols)), NOTHING]
        before = list(range(-1, len(symbols) - 1))
        queue: list[tuple[int, int]] = []

        def offer(left: int) -> None:
            if left >= 0 and after[left] >= 0:
                rank = ranks.get(symbols[left] << 32 | symbols[after[left]])
                if rank is not None:
                    heapq.heappush(queue, (rank, left))

        for place in range(len(symbols)):
            offer(place)
        while queue:
            rank, left = heapq.heappop(queue)
            right = after[left]
            if symbols[left] == NOTHING or right < 0 or ranks.get(symbols[left] << 32 | symbols[right]) != rank:
                continue  # one of the two has been merged into another since
            symbols[left], symbols[right] = self._made[rank], NOTHING
            after[left] = after[right]
            if after[right] >= 0:
                before[after[right]] = left
            offer(before[left])
            offer(left)
        return [symbol for symbol in symbols if symbol != NOTHING]


def pair_of(merge: tuple[str, str] | str) -> tuple[str, str]:
    """Merges of older files are one string, a space between the two."""
    if isinstance(merge, tuple):
        return merge
    first, space, second = merge.partition(" ")
    if not space or not first or not second or " " in second:
        raise ValueError(f"{merge!r} is not a pair of symbols")
    return first, second
