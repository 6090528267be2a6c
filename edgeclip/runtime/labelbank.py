"""Labels to a text bank with a bundle's own text engine: the text stages, put together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from edgeclip.bundle import Bundle
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.text import TextEncoder, embed_labels
from edgeclip.runtime.tokenizer import load_tokenizer
from edgeclip.types import Label, TextBank


def open_text_encoder(bundle: Bundle, *, backend: str | None = None, threads: int | None = None) -> TextEncoder:
    """The bundle's text engine with its tokenizer. The caller closes it. Raises DataError or EngineError."""
    facts = bundle.manifest.text
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
    """embed_labels() that opens the bundle's text engine if, and only if, the cache lacks a label."""
    return embed_labels(
        bundle,
        labels,
        encoder=lambda: open_text_encoder(bundle, backend=backend, threads=threads),
        cache_dir=cache_dir,
        notices=notices,
        advance=advance,
    )
