"""The background of a bundle: everyday scenes as texts, and what unrelated texts reach in its embedding space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import edgeclip
from edgeclip.bundle import Bundle
from edgeclip.runtime.evidence import Null, measure_null
from edgeclip.runtime.golden import load_golden
from edgeclip.runtime.labels import parse_labels
from edgeclip.runtime.text_bank import load_fixed_bank
from edgeclip.types import Embeddings, Label, TextBank

SCENES = Path(edgeclip.__file__).parent / "data" / "background.txt"

Embed = Callable[[Sequence[Label]], TextBank]


@dataclass(frozen=True, slots=True)
class Background:
    """texts: [B, D] unit vectors. null: measured with the golden frames."""

    texts: Embeddings
    null: Null


def load_background(bundle: Bundle, embed: Embed, more: Sequence[str] = ()) -> Background:
    """The built-in scenes (of a bundle with a fixed bank of texts: all of its names), and `more` texts."""
    if bundle.manifest.text.bank is not None:
        scenes = list(load_fixed_bank(bundle).names)
    else:
        scenes = [label.name for label in parse_labels(SCENES)]
    texts = embed(as_written([*scenes, *more])).embeddings
    golden = load_golden(bundle).embeddings.astype(np.float32)
    golden /= np.linalg.norm(golden, axis=1, keepdims=True)
    return Background(texts, measure_null(golden, texts[: len(scenes)], bundle.manifest.scoring.scale))


def as_written(texts: Sequence[str]) -> list[Label]:
    """Each text a label whose only prompt it is: no template applies."""
    return [Label(text, (text,)) for text in texts]
