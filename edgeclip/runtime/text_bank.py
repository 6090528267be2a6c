"""A fixed bank of texts: names and their unit vectors, in a bundle that has no text engine."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from edgeclip.bundle import Bundle
from edgeclip.errors import DataError
from edgeclip.npz import read_npz
from edgeclip.runtime.text import label_prompts
from edgeclip.types import Embeddings, Label, TextBank

NEAREST = 3


class FixedBank:
    """names [L] and their embeddings [L, D], unit length. A label is one of the names, whatever its case."""

    def __init__(self, names: Sequence[str], embeddings: Embeddings, space: str, origin: str) -> None:
        self.names = tuple(names)
        self._embeddings = embeddings
        self._rows = {name.casefold(): row for row, name in enumerate(self.names)}
        self._space = space
        self._origin = origin

    def pick(self, labels: Sequence[Label]) -> TextBank:
        """The labels' own rows; of a label with prompts, which must be names too, their mean direction.

        Raises DataError naming every label that is not in the bank, and the names nearest to the first.
        """
        prompts = [label_prompts(label, ("{}",)) for label in labels]
        unknown = list(dict.fromkeys(text for some in prompts for text in some if text.casefold() not in self._rows))
        if unknown:
            raise DataError(
                f"{self._origin} knows {len(self.names)} names, and not {', '.join(map(repr, unknown[:5]))}"
                + (f" and {len(unknown) - 5} others" if len(unknown) > 5 else ""),
                self._hint(unknown[0]),
            )
        rows = []
        for label, some in zip(labels, prompts, strict=True):
            mean = self._embeddings[[self._rows[text.casefold()] for text in some]].mean(axis=0)
            length = float(np.linalg.norm(mean))
            if length < 1e-3:
                raise DataError(f"the prompts of {label.name!r} cancel each other out", "give the label fewer prompts")
            rows.append(mean / length)
        embeddings = np.stack(rows) if rows else np.empty((0, self._embeddings.shape[1]))
        return TextBank(tuple(label.name for label in labels), embeddings.astype(np.float32), self._space)

    def _hint(self, text: str) -> str:
        by_fold = {name.casefold(): name for name in self.names}
        near = difflib.get_close_matches(text.casefold(), list(by_fold), NEAREST, 0.5)
        if near:
            return f"nearest to {text!r}: {', '.join(by_fold[name] for name in near)}"
        return f"this bundle has no text engine; `edgeclip inspect {self._origin}` says which names it has"


def load_fixed_bank(bundle: Bundle) -> FixedBank:
    """Raises DataError where the file is not what the manifest says."""
    name, dim = bundle.manifest.text.bank or "", bundle.manifest.dim
    hint = "the bundle is damaged: build or copy it again"
    try:
        names, embeddings = read_npz(bundle.file(name), "names", "embeddings")
    except (OSError, ValueError) as error:
        raise DataError(f"{bundle.origin}: {name} is not a bank of texts: {error}", hint) from error
    well = names.ndim == 1 and names.dtype.kind == "U" and embeddings.dtype == np.float32
    if not well or embeddings.shape != (len(names), dim) or not len(names) or not np.isfinite(embeddings).all():
        raise DataError(f"{bundle.origin}: {name} holds no names with {dim} numbers each", hint)
    if (np.abs(np.linalg.norm(embeddings, axis=1) - 1.0) > 1e-2).any():
        raise DataError(f"{bundle.origin}: {name} holds vectors that are not of unit length", hint)
    return FixedBank(names.tolist(), embeddings, bundle.manifest.space, bundle.origin)
