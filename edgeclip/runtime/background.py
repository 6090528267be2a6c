"""The background of a bundle: everyday scenes as texts, and what unrelated texts reach in its embedding space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeclip.bundle import Bundle
from edgeclip.runtime.evidence import Null, measure_null
from edgeclip.runtime.golden import load_golden
from edgeclip.runtime.scenes import as_written, background_labels
from edgeclip.types import Embeddings, Label, TextBank

Embed = Callable[[Sequence[Label]], TextBank]


@dataclass(frozen=True, slots=True)
class Background:
    """texts: [B, D] unit vectors. null: measured with the golden frames."""

    texts: Embeddings
    null: Null


def load_background(bundle: Bundle, embed: Embed, more: Sequence[str] = ()) -> Background:
    """The built-in scenes (of a bundle with a fixed bank of texts: all of its names), and `more` texts."""
    scenes = background_labels(bundle)
    texts = embed([*scenes, *as_written(more)]).embeddings
    golden = load_golden(bundle).embeddings.astype(np.float32)
    golden /= np.linalg.norm(golden, axis=1, keepdims=True)
    return Background(texts, measure_null(golden, texts[: len(scenes)], bundle.manifest.scoring.scale))
