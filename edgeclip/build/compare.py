"""Float and INT8 on the same frames and prompts: how far apart, how accurate, how fast."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edgeclip.build.checkpoints.sentences import SENTENCES
from edgeclip.build.measure import Distance, accuracy, accuracy_drop, best, distance
from edgeclip.build.opened import rows_of
from edgeclip.build.report import FLOAT, Candidate, FloatFigures
from edgeclip.bundle import Text
from edgeclip.progress import Progress
from edgeclip.runtime.labelbank import EVERYDAY
from edgeclip.runtime.labels import parse_labels
from edgeclip.runtime.text import TextEncoder, label_prompts
from edgeclip.runtime.tokenizer import Tokenizer
from edgeclip.turns import engines_ms, latencies_ms
from edgeclip.types import Embeddings, Engine, Label, Pixels

Batch = npt.NDArray[np.uint8]
Truth = npt.NDArray[np.intp]
SAMPLE_PROMPTS = 64


@dataclass(frozen=True)
class Quantized:
    """One INT8 engine to be measured."""

    engine: Engine
    precision: str
    bytes: int


@dataclass(frozen=True)
class Measured:
    """Every image candidate, the float embeddings they were compared with, and their own, by file."""

    candidates: list[Candidate]
    reference: Embeddings
    rows: dict[str, Embeddings]
    floating: FloatFigures


def form_of(file: str) -> str:
    return file.rsplit(".", 1)[1]


def engines(floats: Mapping[str, Quantized], quantized: Mapping[str, Quantized]) -> dict[str, Engine]:
    """By "float.FORMAT", and by file."""
    return {f"float.{form}": graph.engine for form, graph in floats.items()} | {
        file: graph.engine for file, graph in quantized.items()
    }


def candidate(file: str, graph: Quantized, times: Mapping[str, float], to_float: Distance) -> Candidate:
    """times: milliseconds, of this one and of the float graph of its format."""
    speedup = times[f"float.{form_of(file)}"] / times[file]
    return Candidate(file, graph.precision, graph.bytes, times[file], speedup, to_float)


def measure_images(
    floats: Mapping[str, Quantized],
    quantized: Mapping[str, Quantized],
    frames: Iterable[Batch],
    progress: Progress,
) -> Measured:
    """Run float graphs (by format) and INT8 engines (by file) on the same frames ([1, H, W, 3] uint8 RGB)."""
    graphs = engines(floats, quantized)
    parts: dict[str, list[Embeddings]] = {name: [] for name in graphs}
    for frame in frames:
        for name, graph in graphs.items():
            parts[name].append(np.array(graph.run(frame), np.float32))
        progress.advance()
    rows = {name: np.concatenate(part) for name, part in parts.items()}
    reference = rows[f"float.{next(iter(floats))}"]
    times = engines_ms(graphs)
    candidates = [candidate(file, graph, times, distance(reference, rows[file])) for file, graph in quantized.items()]
    for form, floating in floats.items():
        file, time_ms = f"image.float.{form}", times[f"float.{form}"]
        rows[file] = rows[f"float.{form}"]
        candidates.append(Candidate(file, FLOAT, floating.bytes, time_ms, 1.0, distance(reference, rows[file])))
    figures = FloatFigures(
        {form: times[f"float.{form}"] for form in floats}, {form: graph.bytes for form, graph in floats.items()}
    )
    return Measured(candidates, reference, rows, figures)


def measure_texts(
    floats: Mapping[str, Quantized],
    quantized: Mapping[str, Quantized],
    tokenizer: Tokenizer,
    facts: Text,
    labels: Sequence[Label],
) -> tuple[list[Candidate], dict[str, Embeddings]]:
    """(candidates, banks): banks by file, and by "float.FORMAT", are [L, D], empty where there are no labels.

    Distances are over the prompts of the labels and of the built-in everyday ones, and sentences in many scripts; where
    the tokenizer knows few of their words over random ids too: of a single prompt nothing is left once the mean is
    subtracted.
    """
    graphs = engines(floats, quantized)
    asked = [prompt for label in (*labels, *parse_labels(EVERYDAY)) for prompt in label_prompts(label, facts.templates)]
    ids = tokenizer.encode_batch([*dict.fromkeys(asked), *SENTENCES], facts.context_length, facts.pad_id)
    ids = np.unique(ids, axis=0)
    if len(ids) < SAMPLE_PROMPTS:
        ids = np.concatenate([ids, sample_ids(facts)])
    rows = {name: rows_of(graph, ids[:, None]) for name, graph in graphs.items()}
    times = latencies_ms({name: functools.partial(graph.run, ids[:1]) for name, graph in graphs.items()})
    candidates = [
        candidate(file, graph, times, distance(rows[f"float.{form_of(file)}"], rows[file]))
        for file, graph in quantized.items()
    ]
    return candidates, {name: bank(graph, tokenizer, facts, labels) for name, graph in graphs.items()} if labels else {}


def sample_ids(facts: Text) -> npt.NDArray[np.int32]:
    """[SAMPLE_PROMPTS, T] prompts of random low ids, which every vocabulary has."""
    random = np.random.default_rng(0)
    ids = np.full((SAMPLE_PROMPTS, facts.context_length), facts.pad_id, np.int32)
    for row in ids:
        length = int(random.integers(1, facts.context_length + 1))
        row[:length] = random.integers(0, 100, length)
    return ids


def bank(engine: Engine, tokenizer: Tokenizer, facts: Text, labels: Sequence[Label]) -> Embeddings:
    """[L, D]: per label the mean direction of its prompts, as the runtime makes it, but never from its cache."""
    encoder = TextEncoder(engine, tokenizer, facts)
    rows = []
    for label in labels:
        mean = encoder.encode(label_prompts(label, facts.templates)).mean(0)
        rows.append(mean / np.linalg.norm(mean))
    return np.stack(rows).astype(np.float32)


def truth_of(names: Sequence[str], labels: Sequence[Label]) -> Truth:
    """Index of every name among the labels, case folded; -1 where it is none of them."""
    index = {label.name.casefold(): i for i, label in enumerate(labels)}
    return np.array([index.get(name.casefold(), -1) for name in names], np.intp)


def with_accuracy(
    candidate: Candidate, images: Embeddings, texts: Embeddings, floats: npt.NDArray[np.intp], truth: Truth | None
) -> Candidate:
    """Add how often the best label is float's (`floats`: [N, L] its order), and accuracy where the truth is known."""
    ours = best(images, texts)
    changes: dict[str, float] = {"agreement": 100.0 * float((ours[:, 0] == floats[:, 0]).mean())}
    if truth is not None and (known := truth >= 0).any():
        changes["top1"] = accuracy(ours[known], truth[known], 1)
        changes["top5"] = accuracy(ours[known], truth[known], 5)
        changes["top1_drop"], changes["top1_drop_error"] = accuracy_drop(floats[known], ours[known], truth[known])
    return msgspec.structs.replace(candidate, **changes)


def with_float_accuracy(figures: FloatFigures, floats: npt.NDArray[np.intp], truth: Truth | None) -> FloatFigures:
    if truth is None or not (known := truth >= 0).any():
        return figures
    return msgspec.structs.replace(
        figures, top1=accuracy(floats[known], truth[known], 1), top5=accuracy(floats[known], truth[known], 5)
    )


def labelled(data: Path, preprocess: Callable[[Pixels], Batch], names: list[str]) -> Iterator[Batch]:
    """Preprocessed pictures of a labelled data set; their label names are appended to `names` as they come."""
    from edgeclip.datasets import iter_samples

    for sample in iter_samples(data):
        names.append(sample.label)
        yield preprocess(sample.pixels)


def machine() -> str:
    """CPU model and architecture, for the report."""
    model = ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        model = ""
    return f"{model or platform.processor()} ({platform.machine()})"
