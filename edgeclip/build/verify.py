"""Verify: measure every INT8 candidate against float, keep the better ones, refuse a build that misses its gates."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import numpy as np

from edgeclip.build import calibrate, compare, markdown, pack, quantize, report
from edgeclip.build.carry import carried_frames
from edgeclip.build.compare import Batch, Measured, Quantized, Truth
from edgeclip.build.export import Exported
from edgeclip.build.figures import Worst, draw_sensitivity, draw_worst
from edgeclip.build.frames import frames_of
from edgeclip.build.measure import best, cosines
from edgeclip.build.opened import engine_on, rows_of
from edgeclip.build.order import Order
from edgeclip.build.page import as_html
from edgeclip.build.quantize import load_findings
from edgeclip.build.reference_preprocess import parity
from edgeclip.build.report import SENSITIVITY, Candidate, FloatFigures, Report
from edgeclip.bundle import FRAMES
from edgeclip.errors import DataError, EngineError
from edgeclip.npz import npz_bytes
from edgeclip.progress import Progress
from edgeclip.runtime.frames import frames_file
from edgeclip.runtime.preprocess import Preprocessor
from edgeclip.runtime.text_bank import FixedBank
from edgeclip.runtime.tokenizer import load_tokenizer
from edgeclip.types import Embeddings, Label

PARITY_FRAMES = 64
GOLDEN_FRAMES = 8
FEWEST_HELD_OUT = 16  # fewer say nothing: the calibration frames are looked at too, and the report says so
FEWEST_LABELLED = 16
OVERSAMPLING = 4
WORST_FRAMES = 8
PAGE = "report.html"  # stays in the work directory: its pictures may not be for passing on
WORST, SENSITIVE = "Frames on which INT8 is farthest from float", "What each layer costs"
OPENVINO = "image.openvino.onnx"  # a candidate's name: the file is the Q/DQ ONNX
STEP = "verify"  # the directory of this step in the work directory
REJECTED = "rejected"  # in the work directory: the report of a build that missed its gates


def verify(
    order: Order,
    exported: Exported,
    labels: Sequence[Label],
    graphs: Path,
    calibrated: Path,
    quantized: Path,
    directory: Path,
    progress: Progress,
) -> None:
    """Write report.json, report.md, golden.npz, frames.npz and tokenizer.json to `directory`.

    graphs, calibrated, quantized: what the steps before left. Raises DataError where a gate is not reached.
    """
    quantization = order.plan.quantization
    precisions = quantize.precisions(quantization)
    int8 = {path.name: opened(path, precisions[path.name]) for path in sorted(quantized.glob("*.[to]*"))}
    int8 |= on_openvino(quantized / "image.onnx", progress)
    floats = {path.name: opened(path, "float32") for path in sorted(graphs.glob("*.[to]*"))}
    image_floats, text_floats = of_role(floats, "image"), of_role(floats, "text")

    names: list[str] = []
    frames, origin = frames_measured(order, exported, calibrated, names)
    overlap: list[bool] = []
    watched = frames if order.data is None else noting(frames, calibrate.load_frames(calibrated)[0], overlap)
    images = compare.measure_images(by_form(image_floats), of_role(int8, "image"), watched, progress)
    texts, banks, classes = text_side(exported, text_floats, of_role(int8, "text"), labels, graphs, directory)
    truth = compare.truth_of(names, labels) if order.data is not None else None
    if truth is not None and (known := int((truth >= 0).sum())) < FEWEST_LABELLED:
        raise DataError(
            f"{known} of {len(truth)} pictures of {order.data} have one of the labels of {order.labels}, and a gate on "
            f"fewer than {FEWEST_LABELLED} says nothing",
            "check the label file, or give more pictures",
        )
    candidates, figures = (images.candidates, images.floating) if not banks else with_texts(images, banks, truth)

    reference = next(iter(by_form(image_floats).values())).engine
    runtimes = quantization.tflite.runtimes
    originals = frames_of(order.golden, PARITY_FRAMES, order.plan.sampling.seed)
    result = Report(
        name=order.plan.recipe.name,
        space=exported.space,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine=compare.machine(),
        frames=len(images.reference),
        origin=origin,
        overlap=sum(overlap),
        labels=len(classes),
        gates=quantization.gates,
        floating=figures,
        images=report.keep([report.judge(c, quantization.gates, runtimes) for c in candidates], order.targets),
        texts=report.keep([report.judge(c, quantization.gates, runtimes) for c in texts], order.targets),
        export_cosine=exported.cosine,
        original_cosine=exported.original,
        provenance=exported.provenance(),
        calibration=msgspec.to_builtins(calibrate.load_summary(calibrated)),
        parity=parity(originals, exported.preprocess, reference.run),
        search=load_findings(quantized),
    )
    again, _ = frames_measured(order, exported, calibrated, [])
    shown = shown_engine(result)
    worst = worst_frames(images, shown.file, banks, classes, names, again)
    pictures = {f"{WORST}: {shown.shown}": draw_worst(worst)}
    if result.search is not None and result.search.sensitivity:
        pictures[SENSITIVE] = draw_sensitivity(result.search.sensitivity)
        (directory / SENSITIVITY).write_bytes(pictures[SENSITIVE])
    markdown.write_report(result, directory)
    (directory / PAGE).write_text(as_html(markdown.as_markdown(result), pictures), encoding="utf-8")
    for candidate in (*result.images, *result.texts):
        progress.note(line(candidate))
    try:
        report.require(result)
    except DataError:
        rejected = order.work / REJECTED
        rejected.mkdir(exist_ok=True)
        markdown.write_report(result, rejected)
        shutil.copyfile(directory / PAGE, rejected / PAGE)
        raise
    shutil.rmtree(order.work / REJECTED, ignore_errors=True)  # of an earlier build, which this one has mended
    progress.note(f"{order.work / STEP / PAGE}: the report with its pictures")
    chosen = golden_frames(order, exported)
    golden = npz_bytes(frames=np.concatenate(chosen), embeddings=rows_of(reference, chosen))
    (directory / pack.GOLDEN).write_bytes(golden)
    carried = carried_frames(calibrated, order.plan.sampling)
    if carried:
        (directory / FRAMES).write_bytes(frames_file(rows_of(reference, carried)))


def text_side(
    exported: Exported,
    floats: dict[str, Quantized],
    int8: dict[str, Quantized],
    labels: Sequence[Label],
    graphs: Path,
    directory: Path,
) -> tuple[list[Candidate], dict[str, Embeddings], list[str]]:
    """What the bundle needs for texts goes to `directory`: the tokenizer, or the fixed bank.

    Returns as measure_texts, and the name of each row. A fixed bank is the same whatever the engines' format; where no
    labels are given, all of its names are.
    """
    facts = pack.text_facts(exported)
    if facts.bank is not None:
        shutil.copyfile(graphs / facts.bank, directory / facts.bank)
        with np.load(graphs / facts.bank, allow_pickle=False) as stored:
            known = FixedBank(stored["names"].tolist(), stored["embeddings"], exported.space, exported.name)
        picked = known.pick(labels or [Label(name) for name in known.names])
        return [], {"float.bank": picked.embeddings, "bank": picked.embeddings}, list(picked.names)
    path = directory / facts.file
    path.write_text(exported.tokenizer, encoding="utf-8")
    measured, banks = compare.measure_texts(by_form(floats), int8, load_tokenizer(path), facts, labels)
    return measured, banks, [label.name for label in labels]


def with_texts(
    images: Measured, banks: dict[str, Embeddings], truth: Truth | None
) -> tuple[list[Candidate], FloatFigures]:
    """Agreement and accuracy: float images with float texts, INT8 images with the INT8 texts of their format."""
    float_bank = next(bank for file, bank in banks.items() if file.startswith("float."))
    own = {file: bank for file, bank in banks.items() if not file.startswith("float.")}
    floats = best(images.reference, float_bank)
    candidates = []
    for candidate in images.candidates:
        form = compare.form_of(candidate.file)
        bank = next((bank for file, bank in own.items() if file.endswith(form)), next(iter(own.values())))
        candidates.append(compare.with_accuracy(candidate, images.rows[candidate.file], bank, floats, truth))
    return candidates, compare.with_float_accuracy(images.floating, floats, truth)


def frames_measured(
    order: Order, exported: Exported, calibrated: Path, names: list[str]
) -> tuple[Iterable[Batch], str]:
    """(frames [1, H, W, 3], where from); label names are appended to `names` as labelled ones come."""
    if order.data is not None:
        return compare.labelled(order.data, Preprocessor(exported.preprocess), names), f"labelled, {order.data.name}"
    return unlabelled(calibrated)


def noting(frames: Iterable[Batch], used: Batch, overlap: list[bool]) -> Iterator[Batch]:
    """The same frames. In `overlap` it is noted of each whether it is one of `used` [N, H, W, 3], calibrated on."""
    known = {frame.tobytes() for frame in used}
    for frame in frames:
        overlap.append(frame[0].tobytes() in known)
        yield frame


def shown_engine(result: Report) -> Candidate:
    """Of the INT8 image engines the one that the bundle's reader takes first, or would have, had it passed."""
    kept = [one for one in result.kept() if one in result.images and one.precision != report.FLOAT]
    others = [one for one in result.images if one.precision != report.FLOAT]
    return (kept or others)[0]


def worst_frames(
    images: Measured,
    chosen: str,
    banks: dict[str, Embeddings],
    classes: Sequence[str],
    names: Sequence[str],
    frames: Iterable[Batch],
) -> list[Worst]:
    """The frames on which the image engine `chosen` is farthest from float."""
    rows, mean = images.rows[chosen], images.reference.mean(0)
    centred = cosines(images.reference - mean, rows - mean)
    order = np.argsort(centred)[:WORST_FRAMES].tolist()
    said: list[dict[int, str]] = [{}, {}]
    if banks:
        bank = next(iter(banks.values()))
        for which, embeddings in zip(said, (images.reference, rows), strict=True):
            which.update((i, classes[best(embeddings[i : i + 1], bank)[0, 0]]) for i in order)
    found = {
        i: Worst(frame[0].copy(), float(centred[i]), said[0].get(i, ""), said[1].get(i, ""), names[i] if names else "")
        for i, frame in enumerate(frames)
        if i in order
    }
    return [found[i] for i in order]


def unlabelled(calibrated: Path) -> tuple[list[Batch], str]:
    """(frames [1, H, W, 3], where from): those held out of calibration, or all where too few could be."""
    used, held = calibrate.load_frames(calibrated)
    if len(held) >= FEWEST_HELD_OUT:
        return [frame[None] for frame in held], "held out of the calibration set"
    return [frame[None] for frame in np.concatenate([used, held])], "calibration frames, too few to hold some out"


def golden_frames(order: Order, exported: Exported) -> list[Batch]:
    """Frames [1, H, W, 3], neither blank nor alike, from all over the place that the recipe names for them."""
    sampling = order.plan.sampling
    originals = frames_of(order.golden, OVERSAMPLING * GOLDEN_FRAMES, sampling.seed)
    found = calibrate.select(originals, Preprocessor(exported.preprocess), sampling).frames
    if len(found) < GOLDEN_FRAMES:
        raise DataError(f"{order.golden}: fewer than {GOLDEN_FRAMES} distinct frames for the self-test", "add pictures")
    return [found[i] for i in np.linspace(0, len(found) - 1, GOLDEN_FRAMES).round().astype(int)]


def opened(path: Path, precision: str) -> Quantized:
    """A graph file with an engine on it."""
    return Quantized(engine_on(path), precision, path.stat().st_size)


def on_openvino(path: Path, progress: Progress) -> dict[str, Quantized]:
    """The Q/DQ ONNX on OpenVINO, which x86-64 devices may have; nothing where it is not installed, or cannot run it."""
    if importlib.util.find_spec("openvino") is None:
        return {}
    try:
        from edgeclip.runtime.backends.openvino import OpenVinoEngine

        engine = OpenVinoEngine(path, 1)
    except (EngineError, ImportError) as error:  # one of three runtimes: the others are measured all the same
        progress.note(f"OpenVINO cannot run {path.name}, and is not measured: {error}")
        return {}
    return {OPENVINO: Quantized(engine, quantize.ON_OPENVINO, path.stat().st_size)}


def of_role(graphs: dict[str, Quantized], role: str) -> dict[str, Quantized]:
    return {name: graph for name, graph in graphs.items() if name.startswith(f"{role}.")}


def by_form(graphs: dict[str, Quantized]) -> dict[str, Quantized]:
    """By format, TFLite first: it is the reference where there are both."""
    return {compare.form_of(name): graphs[name] for name in sorted(graphs, reverse=True)}


def line(candidate: Candidate) -> str:
    """One line for the progress report."""
    accuracy = "" if candidate.top1 is None else f", top-1 {candidate.top1:.1f} % ({-(candidate.top1_drop or 0):+.2f})"
    return (
        f"{candidate.file}: {candidate.precision}, centred cosine {candidate.distance.centred.mean:.4f}{accuracy}, "
        f"{candidate.latency_ms:.2f} ms ({candidate.speedup:.1f} x float): {report.verdict(candidate)}"
    )
