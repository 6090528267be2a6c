"""Labels to a text bank with a bundle's own text engine, or out of its fixed bank: the text stages, put together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import edgeclip
from edgeclip.bundle import Bundle
from edgeclip.errors import EngineError
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.labels import parse_labels, refuse_reserved
from edgeclip.runtime.text import TextEncoder, embed_labels
from edgeclip.runtime.text_bank import load_fixed_bank
from edgeclip.runtime.tokenizer import load_tokenizer
from edgeclip.types import Label, TextBank

EVERYDAY = Path(edgeclip.__file__).parent / "data" / "everyday.txt"


def open_text_encoder(bundle: Bundle, *, backend: str | None = None, threads: int | None = None) -> TextEncoder:
    """The bundle's text engine with its tokenizer. The caller closes it. Raises DataError or EngineError."""
    facts = bundle.manifest.text
    if facts.tokenizer is None:
        raise EngineError(f"{bundle.origin} has no text engine: its labels are the names in its {facts.bank}")
    tokenizer = load_tokenizer(bundle.file(facts.tokenizer))
    return TextEncoder(load_engine(bundle, "text", backend=backend, threads=threads), tokenizer, facts)


def load_bank(
    bundle: Bundle,
    labels: Sequence[Label],
    *,
    backend: str | None = None,
    threads: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    notices: Callable[[str], None] | None = None,
    advance: Callable[[int], None] | None = None,
) -> TextBank:
    """embed_labels() that opens the bundle's text engine if, and only if, the cache lacks a label.

    With a fixed bank, its rows; raises DataError for labels outside of it.
    """
    if bundle.manifest.text.bank is not None:
        return load_fixed_bank(bundle).pick(labels)
    return embed_labels(
        bundle,
        labels,
        encoder=lambda: open_text_encoder(bundle, backend=backend, threads=threads),
        cache_dir=cache_dir,
        notices=notices,
        advance=advance,
    )


def usual_labels(bundle: Bundle) -> tuple[Label, ...]:
    """What is looked for where nobody said: everyday things, or all that a fixed bank knows. Raises DataError."""
    if bundle.manifest.text.bank is not None:
        names = load_fixed_bank(bundle).names
        for name in names:
            refuse_reserved(name, f"{bundle.origin}, its {bundle.manifest.text.bank}")
        return tuple(Label(name) for name in names)
    return parse_labels(EVERYDAY)
