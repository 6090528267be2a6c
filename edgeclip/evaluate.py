"""How well a bundle's engines do on labelled pictures: zero-shot accuracy, and retrieval where there are captions."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeclip.bundle import Bundle
from edgeclip.datasets import Sample, iter_samples
from edgeclip.errors import DataError
from edgeclip.progress import Progress, Silent
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.labelbank import load_bank
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.runtime.rows import Rows
from edgeclip.runtime.similarity import similarity
from edgeclip.runtime.taughtlabels import TaughtLabels
from edgeclip.types import Embeddings, Label, Refinement, TextBank

TOP_CONFUSIONS = 20
_ROWS_PER_STEP = 1024  # bounds the similarity matrix in memory


@dataclass(frozen=True)
class ClassAccuracy:
    """top1: fraction of the label's n pictures that it was the best label of."""

    label: str
    n: int
    top1: float


@dataclass(frozen=True)
class Confusion:
    """`n` pictures of `label` whose best label was `predicted`."""

    label: str
    predicted: str
    n: int


@dataclass(frozen=True)
class Recall:
    """Fractions of queries with a right answer among the first 1, 5 and 10."""

    r1: float
    r5: float
    r10: float


@dataclass(frozen=True)
class Retrieval:
    """Over the pictures with captions. Equal captions are one text, and right for every picture that has it."""

    images: int
    texts: int
    image_to_text: Recall
    text_to_image: Recall


@dataclass(frozen=True)
class EvalResult:
    """What was measured. Every accuracy is a fraction in 0..1.

    n: pictures that top1 and top5 are over; None for both where no picture's label is among the labels.
    skipped: pictures left out of these, because they have no label or one that is not among the labels.
    labels: size of the label set. classes: by label, in the label set's order, those with pictures only.
    confusions: the most frequent mistakes, at most TOP_CONFUSIONS. ms_per_image_p50: preprocessing and engine.
    taught: how many of the labels were refined by taught pictures.
    """

    bundle: str
    space: str
    runtime: str
    top1: float | None
    top5: float | None
    n: int
    skipped: int
    labels: int
    ms_per_image_p50: float
    retrieval: Retrieval | None
    classes: tuple[ClassAccuracy, ...]
    confusions: tuple[Confusion, ...]
    taught: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


def evaluate(
    bundle: Bundle,
    data: str | os.PathLike[str],
    labels: Sequence[Label] | None = None,
    *,
    backend: str | None = None,
    threads: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    notices: Callable[[str], None] | None = None,
    taught: TaughtLabels | None = None,
) -> EvalResult:
    """Run the image engine over a data set (see edgeclip.datasets) and compare with its labels and captions.

    labels: the label set to choose from, all at once; None takes the data's own labels, lower-cased. A picture counts
    where its label is the name of one of them, whatever the case. taught: what refines the labels.
    Raises DataError where nothing can be compared, and whatever reading the data or loading the engines raises.
    """
    progress = progress or Silent()
    known = None if labels is None else {label.name.lower() for label in labels}
    images, samples, runtime, seconds = _embed_pictures(bundle, data, known, backend, threads, progress)
    if labels is None:
        labels = [Label(name) for name in sorted({sample.label for sample in samples if sample.label})]

    def bank(some: Sequence[Label], stage: str) -> TextBank:
        progress.stage(stage, len(some))
        embedded = load_bank(
            bundle,
            some,
            backend=backend,
            threads=threads,
            cache_dir=cache_dir,
            notices=notices or progress.note,
            advance=progress.advance,
        )
        progress.done()
        return embedded

    names = {label.name.lower(): index for index, label in enumerate(labels)}
    rows = [row for row, sample in enumerate(samples) if sample.label in names]
    wanted = np.array([names[samples[row].label] for row in rows], np.int64)
    captions = [sample.texts for sample in samples]
    texts = list(dict.fromkeys(text for some in captions for text in some))
    if not rows and not texts:
        raise DataError(
            f"{data}: no picture's label is among the {len(labels)} labels, and none has a caption",
            "use the names of the data's own labels, or leave --labels away to take those",
        )
    predicted = places = wanted
    refined = 0
    if rows:
        label_bank = bank(labels, "labels")
        if taught is not None:
            label_bank, refined = taught.refine(label_bank), len(taught.counts)
        predicted, places = rank_of_wanted(images[rows], label_bank.embeddings, wanted, label_bank.refinement)
    retrieval = None
    if texts:
        number = {text: index for index, text in enumerate(texts)}
        pairs = [(row, number[text]) for row, some in enumerate(captions) for text in dict.fromkeys(some)]
        caption_bank = bank([Label(text, (text,)) for text in texts], "captions")
        retrieval = measure_retrieval(images, caption_bank.embeddings, pairs)
    spelled = [label.name for label in labels]
    return EvalResult(
        bundle=bundle.manifest.name,
        space=bundle.manifest.space,
        runtime=runtime,
        top1=float(np.mean(places < 1)) if rows else None,
        top5=float(np.mean(places < 5)) if rows else None,
        n=len(rows),
        skipped=len(samples) - len(rows),
        labels=len(labels),
        ms_per_image_p50=1e3 * float(np.median(seconds)),
        retrieval=retrieval,
        classes=_classes(wanted, places, spelled),
        confusions=_confusions(wanted, predicted, spelled),
        taught=refined,
    )


def rank_of_wanted(
    images: Embeddings, texts: Embeddings, wanted: npt.NDArray[np.int64], refinement: Refinement | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For images [N, D] and texts [L, D]: the best text of each image [N], and how many come before wanted [N].

    Of equal similarities the earlier text comes first, as at run time.
    """
    best, places = [], []
    for start in range(0, len(images), _ROWS_PER_STEP):
        some = images[start : start + _ROWS_PER_STEP]
        sims = similarity(some, texts)
        if refinement is not None:
            refinement.add(some, sims)
        target = wanted[start : start + _ROWS_PER_STEP, None]
        own = np.take_along_axis(sims, target, axis=1)
        before = (sims > own) | ((sims == own) & (np.arange(len(texts)) < target))
        best.append(sims.argmax(axis=1))
        places.append(before.sum(axis=1))
    return np.concatenate(best), np.concatenate(places)


def measure_retrieval(images: Embeddings, texts: Embeddings, pairs: Sequence[tuple[int, int]]) -> Retrieval:
    """Both directions, between the images [N, D] and texts [T, D] that occur in `pairs` of (image, text) rows."""
    used = sorted({image for image, _ in pairs})
    row = {image: index for index, image in enumerate(used)}
    matches = [(row[image], text) for image, text in pairs]
    some = images[used]
    return Retrieval(
        images=len(used),
        texts=len(texts),
        image_to_text=_recall(some, texts, matches),
        text_to_image=_recall(texts, some, [(text, image) for image, text in matches]),
    )


def _recall(queries: Embeddings, answers: Embeddings, matches: Sequence[tuple[int, int]]) -> Recall:
    """A wrong answer as similar as the best right one counts as before it: engines that return one vector score 0."""
    right: list[list[int]] = [[] for _ in queries]
    for query, answer in matches:
        right[query].append(answer)
    before = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), _ROWS_PER_STEP):
        sims = similarity(queries[start : start + _ROWS_PER_STEP], answers)
        for offset, row in enumerate(sims):
            mine = right[start + offset]
            best = row[mine].max()
            before[start + offset] = np.count_nonzero(row >= best) - np.count_nonzero(row[mine] >= best)
    return Recall(*(float(np.mean(before < k)) for k in (1, 5, 10)))


@dataclass(frozen=True, slots=True)
class _Known:
    """What is kept of a sample once its picture is embedded. label: lower-cased."""

    label: str
    texts: tuple[str, ...]


def _embed_pictures(
    bundle: Bundle,
    data: str | os.PathLike[str],
    known: set[str] | None,
    backend: str | None,
    threads: int | None,
    progress: Progress,
) -> tuple[Embeddings, list[_Known], str, list[float]]:
    """Image embeddings [N, D] with what is known of each, the engine's runtime, and seconds for each picture.

    Pictures that nothing can be compared with are counted, not embedded: their rows are zero.
    """
    preprocess = Preprocessor(bundle.manifest.preprocess)
    engine = load_engine(bundle, "image", backend=backend, threads=threads)
    run = Rows(engine).run
    embeddings: list[Embeddings] = []
    samples: list[_Known] = []
    seconds: list[float] = []
    progress.stage("pictures")
    try:
        for sample in iter_samples(data):
            facts = _Known(sample.label.lower(), sample.texts)
            samples.append(facts)
            comparable = facts.texts or (facts.label if known is None else facts.label in known)
            if comparable:
                embeddings.append(_embed(sample, preprocess, run, seconds))
            else:
                embeddings.append(np.zeros(bundle.manifest.dim, np.float32))
            progress.advance(1)
    finally:
        engine.close()
    progress.done()
    return np.stack(embeddings), samples, engine.runtime, seconds or [0.0]


def _embed(
    sample: Sample,
    preprocess: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]],
    run: Callable[[npt.NDArray[Any]], Embeddings],
    seconds: list[float],
) -> Embeddings:
    pixels = sample.pixels
    start_s = time.perf_counter()
    embedding = run(preprocess(pixels))
    seconds.append(time.perf_counter() - start_s)
    return np.array(embedding[0])


def _classes(
    wanted: npt.NDArray[np.int64], places: npt.NDArray[np.int64], names: Sequence[str]
) -> tuple[ClassAccuracy, ...]:
    return tuple(
        ClassAccuracy(names[index], int((wanted == index).sum()), float(np.mean(places[wanted == index] < 1)))
        for index in np.unique(wanted).tolist()
    )


def _confusions(
    wanted: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], names: Sequence[str]
) -> tuple[Confusion, ...]:
    mistakes = Counter(
        (label, guess) for label, guess in zip(wanted.tolist(), predicted.tolist(), strict=True) if label != guess
    )
    order = sorted(mistakes.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Confusion(names[label], names[guess], n) for (label, guess), n in order[:TOP_CONFUSIONS])
