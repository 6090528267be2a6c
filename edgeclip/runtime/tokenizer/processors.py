"""Special tokens around a text."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgeclip.runtime.tokenizer.component import Component, Id


class _SpecialToken(Component, frozen=True):
    id: str
    type_id: int = 0


class _Sequence(Component, frozen=True):
    id: Literal["A", "B"]
    type_id: int = 0


class _Piece(Component, frozen=True):
    """One place of a template: a special token, or the text."""

    special: _SpecialToken | None = msgspec.field(name="SpecialToken", default=None)
    sequence: _Sequence | None = msgspec.field(name="Sequence", default=None)


class _TemplateIds(Component, frozen=True):
    id: str
    ids: tuple[Id, ...]
    tokens: tuple[str, ...] = ()


class TemplateProcessing(Component, frozen=True, tag=True):
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


class BertProcessing(Component, frozen=True, tag=True):
    """[CLS] before the text, [SEP] after it."""

    sep: tuple[str, Id]
    cls: tuple[str, Id]

    def around(self) -> tuple[list[int], list[int]]:
        return [self.cls[1]], [self.sep[1]]


class RobertaProcessing(Component, frozen=True, tag=True):
    """CLS before the text, SEP after it, whatever they are called."""

    sep: tuple[str, Id]
    cls: tuple[str, Id]
    trim_offsets: bool = True  # of places in the text, which nobody asks for here
    add_prefix_space: bool = True  # the same

    def around(self) -> tuple[list[int], list[int]]:
        return [self.cls[1]], [self.sep[1]]
