"""What every checkpoint becomes, whichever library made it: the one thing that export takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import nn

from edgeclip.bundle import Preprocess, Scoring

Frames = npt.NDArray[np.uint8]  # [N, H, W, 3] RGB, as an image engine takes them
Rows = npt.NDArray[np.float32]  # [N, D], of any length


class Original(Protocol):
    """The library that a checkpoint comes from, for the export to be held against: its own model, its own tokenizer."""

    def image(self, frames: Frames) -> Rows:
        """Embeddings of frames that are resized and cropped already."""

    def text(self, sentences: Sequence[str]) -> Rows:
        """Embeddings of sentences, tokenized by the library."""


@dataclass(frozen=True)
class TextSide:
    """encoder: [N, T] int32 ids -> [N, dim]. tokenizer: the whole tokenizer.json that RUN reads, as text."""

    encoder: nn.Module
    tokenizer: str
    context_length: int
    pad_id: int


@dataclass(frozen=True)
class Bank:
    """A fixed set of names instead of a text tower. embeddings: [L, dim], unit vectors."""

    names: tuple[str, ...]
    embeddings: Rows


@dataclass(frozen=True)
class Encoders:
    """image: [N, 3, H, W] pixels, normalised by the facts' mean and std -> [N, dim]. Towers are float, in eval mode.

    origin: where the weights are from, in words. licence: of the weights, "" where nobody said. notes: what was done to
    the model on the way in, for the report. original: None where the towers are our own.
    """

    name: str
    image: nn.Module
    text: TextSide | Bank
    dim: int
    preprocess: Preprocess
    scoring: Scoring
    templates: tuple[str, ...]
    origin: str
    licence: str = ""
    notes: tuple[str, ...] = ()
    original: Original | None = field(default=None, compare=False)


# Beside the label's bare name, what CLIP's own authors prompt with, and what SigLIP's do.
CLIP_TEMPLATES = ("a photo of a {}.", "{}")
SIGLIP_TEMPLATES = ("This is a photo of {}.", "{}")
