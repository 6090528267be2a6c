"""Where a checkpoint is, which loader reads it, and what it cannot say of itself."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgeclip.bundle import Scoring, Size, Unit

Triple = tuple[Unit, Unit, Unit]


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Preprocessing and scoring as a person states them. None: as the checkpoint, or else its family, has them."""

    size: Size | None = None
    resize: Literal["shortest", "squash"] | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None
    mean: Triple | None = None
    std: Triple | None = None
    scoring: Scoring | None = None
    templates: tuple[str, ...] = ()


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """loader: a key of LOADERS. path: file or directory. architecture: open_clip's name, for weights alone.

    text_bank: an .npz of names and vectors, for an image tower alone.
    """

    loader: str
    path: str
    name: str
    architecture: str = ""
    text_bank: str = ""
    origin: str = ""
    licence: str = ""
    facts: Facts = Facts()

    def files(self) -> tuple[str, ...]:
        return (self.path, self.text_bank) if self.text_bank else (self.path,)
