"""Labels to text embeddings: prompts from the templates, one mean direction per label, computed once and kept.

The text engine is loaded only for labels the cache does not hold, and released before the first frame.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgeclip.bundle import CHECKSUMS, Bundle, Text
from edgeclip.errors import DataError, EngineError
from edgeclip.runtime.text_cache import Entry, TextCache, default_cache_dir
from edgeclip.types import Embeddings, Engine, Label, TextBank

_LABELS_PER_STEP = 256  # kept after each step, so that an interrupted first run loses little
_SHORTEST_MEAN = 1e-3  # prompts that point opposite ways have no mean direction


class PromptTokenizer(Protocol):
    """What TextEncoder needs of a tokenizer."""

    def encode(self, text: str) -> list[int]: ...
    def knows(self, text: str) -> bool: ...
    def encode_batch(self, texts: Sequence[str], context_length: int, pad_id: int) -> npt.NDArray[np.int32]: ...


class TextEncoder:
    """A text engine with its tokenizer: prompts -> unit vectors. It owns the engine: close() releases it."""

    def __init__(self, engine: Engine, tokenizer: PromptTokenizer, facts: Text) -> None:
        if engine.input_shape[1:] != (facts.context_length,):
            engine.close()
            raise DataError(
                f"the text engine takes {list(engine.input_shape)} ids, the manifest's context_length is "
                f"{facts.context_length}",
                "the bundle does not fit together: build it again",
            )
        self._engine = engine
        self._tokenizer = tokenizer
        self._facts = facts

    def encode(self, prompts: Sequence[str]) -> Embeddings:
        """Embeddings [N, D] float32, unit length. Prompts longer than the context are cut, as in training.

        Raises EngineError where the engine returns something that cannot be an embedding.
        """
        ids = self._tokenizer.encode_batch(prompts, self._facts.context_length, self._facts.pad_id)
        size = self._engine.input_shape[0]
        parts: list[Embeddings] = []
        for start in range(0, len(ids), size):
            batch = ids[start : start + size]
            filled = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
            parts.append(np.array(self._engine.run(filled)[: len(batch)], dtype=np.float32))
        embeddings = np.concatenate(parts)
        self._check(ids, embeddings)
        return _unit(embeddings)

    def is_cut(self, prompt: str) -> bool:
        """Whether `prompt` has more ids than the context holds."""
        return len(self._tokenizer.encode(prompt)) > self._facts.context_length

    def knows(self, label: Label) -> bool:
        """Whether any word of a label's own is in the vocabulary; those of the templates do not count."""
        return any(self._tokenizer.knows(text) for text in label.prompts or (label.name,))

    def close(self) -> None:
        self._engine.close()

    def _check(self, ids: npt.NDArray[np.int32], embeddings: Embeddings) -> None:
        hint = f"the text engine does not work on this machine ({self._engine.runtime}): try another --backend"
        if not np.isfinite(embeddings).all():
            raise EngineError("the text engine returned values that are not finite", hint)
        if (np.linalg.norm(embeddings, axis=1) < _SHORTEST_MEAN).any():
            raise EngineError("the text engine returned an empty embedding", hint)
        if (ids != ids[0]).any() and (embeddings == embeddings[0]).all():
            raise EngineError("the text engine returns the same embedding for different prompts", hint)


def embed_labels(
    bundle: Bundle,
    labels: Sequence[Label],
    *,
    encoder: Callable[[], TextEncoder],
    cache_dir: str | os.PathLike[str] | None = None,
    notices: Callable[[str], None] | None = None,
    advance: Callable[[int], None] | None = None,
) -> TextBank:
    """One text embedding per label: the mean on the sphere of its prompts' embeddings.

    encoder: opens the text engine and its tokenizer; called once at most, and not at all where the cache knows every
    label; what it returns is closed before this returns. cache_dir: default_cache_dir() where None. notices: told, in
    one sentence each, what a person should know (a cache that cannot be written, prompts that are cut, labels without a
    word that the tokenizer knows, which are not kept, so that it is said every time). advance: told how many more
    labels are embedded. Raises DataError, EngineError and whatever `encoder` raises.
    """
    notices = notices or _ignore
    directory = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    cache = TextCache(directory, bundle.manifest.space, bundle.manifest.dim, notices)
    prompts = [label_prompts(label, bundle.manifest.text.templates) for label in labels]
    engine_key = _engine_key(bundle)
    keys = [_key(engine_key, some) for some in prompts]
    entries = cache.read(list(dict.fromkeys(keys)))
    missing = {key: some for key, some in zip(keys, prompts, strict=True) if key not in entries}
    foreign: dict[bytes, str] = {}
    if missing:
        open_encoder = encoder()
        try:
            pairs = [(label, key) for label, key in zip(labels, keys, strict=True) if key in missing]
            foreign = {key: label.name for label, key in pairs if not open_encoder.knows(label)}
            for step in _steps(missing):
                embedded = _embed(step, open_encoder, bundle.manifest.dim)
                cache.write({key: entry for key, entry in embedded.items() if key not in foreign})
                entries.update(embedded)
                if advance:
                    advance(len(step))
        finally:
            open_encoder.close()
    if foreign:
        notices(
            f"{bundle.manifest.name} knows no word of {_few(list(foreign.values()))}, and cannot tell such labels from "
            "each other: give each a prompt in words that it was trained with, `name: prompt`"
        )
    cut = [label.name for label, key in zip(labels, keys, strict=True) if entries[key].cut]
    if cut:
        which = "a label" if len(cut) == 1 else f"{len(cut)} labels"
        notices(f"prompts of {which} are longer than the text engine reads and were cut: {_few(cut)}")
    embeddings = np.stack([entries[key].vector for key in keys]) if keys else np.empty((0, bundle.manifest.dim))
    return TextBank(tuple(label.name for label in labels), embeddings.astype(np.float32), bundle.manifest.space)


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")


def label_prompts(label: Label, templates: Sequence[str]) -> tuple[str, ...]:
    """The label's own prompts, or its name in each of the templates."""
    return label.prompts or tuple(template.replace("{}", label.name) for template in templates)


def _steps(missing: Mapping[bytes, tuple[str, ...]]) -> Iterator[dict[bytes, tuple[str, ...]]]:
    items = list(missing.items())
    for start in range(0, len(items), _LABELS_PER_STEP):
        yield dict(items[start : start + _LABELS_PER_STEP])


def _embed(step: Mapping[bytes, tuple[str, ...]], encoder: TextEncoder, dim: int) -> dict[bytes, Entry]:
    rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(p for some in step.values() for p in some))}
    embeddings = encoder.encode(list(rows))
    if embeddings.shape[1] != dim:
        raise DataError(
            f"the text engine returns {embeddings.shape[1]} numbers for a text, the manifest says {dim}",
            "the bundle does not fit together: build it again",
        )
    cut = {prompt: encoder.is_cut(prompt) for prompt in rows}
    entries: dict[bytes, Entry] = {}
    for key, prompts in step.items():
        mean = embeddings[[rows[prompt] for prompt in prompts]].mean(axis=0, keepdims=True)
        if np.linalg.norm(mean) < _SHORTEST_MEAN:
            raise EngineError(f"the prompts {list(prompts)} cancel each other out", "give the label fewer prompts")
        entries[key] = Entry(_unit(mean)[0], sum(cut[prompt] for prompt in prompts))
    return entries


def _unit(vectors: Embeddings) -> Embeddings:
    """Rows scaled to unit length."""
    scaled: Embeddings = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def _engine_key(bundle: Bundle) -> list[str | int]:
    """All that decides what a prompt's embedding is, from the digests that were checked when the bundle was opened."""
    facts = bundle.manifest.text
    files = {facts.file, *(entry.file for entry in bundle.engines("text"))}
    lines = bundle.file(CHECKSUMS).read_text(encoding="utf-8").splitlines()
    digests = sorted(line for line in lines if line.partition("  ")[2] in files)
    return [bundle.manifest.space, facts.context_length, facts.pad_id, *digests]


def _key(engine_key: list[str | int], prompts: tuple[str, ...]) -> bytes:
    return hashlib.sha256(json.dumps([engine_key, prompts]).encode()).digest()


def _ignore(_: str) -> None:
    pass
