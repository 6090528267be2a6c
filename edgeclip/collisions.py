"""`edgeclip labels check`: sentences that a model can hardly tell apart, by its own text embeddings."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeclip.bundle import Bundle
from edgeclip.runtime.evidence import Floats, alike
from edgeclip.runtime.labelbank import load_bank
from edgeclip.runtime.labels import YAML, folded, numbered_labels
from edgeclip.runtime.scenes import background_labels
from edgeclip.runtime.shots import Shot
from edgeclip.runtime.tokenizer import load_tokenizer
from edgeclip.types import Label

LIMIT = 0.9
SO = {
    "labels": "One will often be taken for the other: merge them, or say more of what tells them apart.",
    "watches": "They will begin and end together.",
    "negative": "The watch will hardly ever begin: take that negative away.",
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """label: as embedded. kind: "label", "watch", "negative". group: of a watch, where it looks; of a negative, the
    name of its watch."""

    kind: str
    label: Label
    line: int
    group: str


@dataclass(frozen=True, slots=True)
class Collision:
    """Two sentences, by name and line, and their mean-centred cosine."""

    kind: str  # a key of SO
    first: str
    first_line: int
    second: str
    second_line: int
    similarity: float

    @property
    def so(self) -> str:
        """What will come of it."""
        return SO[self.kind]


@dataclass(frozen=True, slots=True)
class Check:
    """What a file holds, and what collides in it, the nearest first.

    taught: shots in use of the labels and watches that were taught with pictures. taught_elsewhere: the same of labels
    that were taught and that the file does not name. foreign: names of sentences of which the model knows no word.
    """

    file: str
    bundle: str
    labels: int
    watches: int
    collisions: tuple[Collision, ...]
    taught: dict[str, int]
    taught_elsewhere: dict[str, int]
    foreign: tuple[str, ...] = ()


def check_file(path: str | os.PathLike[str], bundle: Bundle, limit: float = LIMIT, shots: Sequence[Shot] = ()) -> Check:
    """A labels file, or a watches file (.yaml, .yml). Raises DataError where it cannot be read.

    shots: what was taught to the bundle's model. Cosines are taken less the mean of the background's texts.
    """
    sentences = sentences_of(path)
    embed = functools.partial(load_bank, bundle)
    texts = embed([sentence.label for sentence in sentences]).embeddings
    counts = Counter(shot.label for shot in shots if not shot.left_out)
    names = {folded(sentence.label.name) for sentence in sentences if sentence.kind != "negative"}
    mean = embed(background_labels(bundle)).embeddings.mean(axis=0)
    return Check(
        file=os.fspath(path),
        bundle=bundle.manifest.name,
        labels=sum(sentence.kind == "label" for sentence in sentences),
        watches=sum(sentence.kind == "watch" for sentence in sentences),
        collisions=tuple(collisions(sentences, alike(texts, texts, mean), limit)),
        taught={name: count for name, count in counts.items() if folded(name) in names},
        taught_elsewhere={name: count for name, count in counts.items() if folded(name) not in names},
        foreign=tuple(foreign(sentences, bundle)),
    )


def foreign(sentences: Sequence[Sentence], bundle: Bundle) -> list[str]:
    """Names of the sentences that are all the same to the bundle's tokenizer, for it knows no word of them."""
    facts = bundle.manifest.text
    if facts.tokenizer is None:
        return []
    tokenizer = load_tokenizer(bundle.file(facts.tokenizer))
    labels = [sentence.label for sentence in sentences]
    return [label.name for label in labels if not any(map(tokenizer.knows, label.prompts or (label.name,)))]


def collisions(sentences: Sequence[Sentence], cosines: Floats, limit: float) -> list[Collision]:
    """Pairs of labels, of watches that look at the same place, and of watches and their negatives, at `limit` or more.

    cosines: [S, S].
    """
    found = []
    for first, second in np.argwhere(np.triu(cosines >= limit, 1)).tolist():
        one, two = sentences[first], sentences[second]
        kind = _kind(one, two)
        if kind:
            found.append(
                Collision(
                    kind, one.label.name, one.line, two.label.name, two.line, round(float(cosines[first, second]), 4)
                )
            )
    return sorted(found, key=lambda collision: -collision.similarity)


def sentences_of(path: str | os.PathLike[str]) -> list[Sentence]:
    """All that a labels file, or a watches file (.yaml, .yml), has embedded. Raises DataError."""
    if Path(path).suffix.lower() in YAML:
        return watch_sentences(path)
    return [Sentence("label", label, line, "") for line, label in numbered_labels(path)]


def watch_sentences(path: str | os.PathLike[str]) -> list[Sentence]:
    from edgeclip.runtime.watches import load_watches
    from edgeclip.yamlfile import lines_of

    file = load_watches(path)
    places: list[list[str | int]] = []
    unplaced: list[tuple[str, Label, str]] = []
    for number, label in enumerate(file.exclusive):
        places.append(["labels", number])
        unplaced.append(("label", label, ""))
    for number, watch in enumerate(file.watches):
        places.append(["watches", number, "name"])
        unplaced.append(("watch", Label(watch.name, watch.positive), f"{watch.source} {watch.region}"))
        for text in watch.negative:
            places.append(["watches", number, "negatives"])
            unplaced.append(("negative", Label(text, (text,)), watch.name))
    return [
        Sentence(kind, label, line, group)
        for (kind, label, group), line in zip(unplaced, lines_of(Path(path), places), strict=True)
    ]


def _kind(one: Sentence, two: Sentence) -> str:
    """ "" where the two may be alike."""
    kinds = {one.kind, two.kind}
    if kinds == {"label"}:
        return "labels"
    if kinds == {"watch"} and one.group == two.group:
        return "watches"
    negative, watch = (one, two) if one.kind == "negative" else (two, one)
    return "negative" if kinds == {"watch", "negative"} and negative.group == watch.label.name else ""
