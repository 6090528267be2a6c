"""Texts of everyday scenes, and texts that are taken as they are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import edgeclip
from edgeclip.bundle import Bundle
from edgeclip.runtime.labels import parse_labels
from edgeclip.runtime.text_bank import load_fixed_bank
from edgeclip.types import Label

SCENES = Path(edgeclip.__file__).parent / "data" / "background.txt"


def background_labels(bundle: Bundle) -> list[Label]:
    """The built-in scenes; of a bundle with a fixed bank of texts, all of its names."""
    if bundle.manifest.text.bank is not None:
        return as_written(load_fixed_bank(bundle).names)
    return as_written([label.name for label in parse_labels(SCENES)])


def as_written(texts: Sequence[str]) -> list[Label]:
    """Each text a label whose only prompt it is: no template applies."""
    return [Label(text, (text,)) for text in texts]
