"""Compute a teacher's space once, before training: image embeddings by sample key, or phrase embeddings.

    python -m edgeclip.train.teachers image --onnx clip.onnx --data 'train-*.tar.gz' --out clip.npz
    python -m edgeclip.train.teachers text --model DIR --phrases corpus.txt --data 'train-*.tar.gz' --out minilm.npz
    python -m edgeclip.train.teachers checkpoint --checkpoint nano.safetensors --data 'train-*.tar.gz' --out nano.npz

`image` takes hours over a large set, and is resumable: stopped, it continues from the part file beside the output.
`checkpoint` embeds with one of our own, for a student that keeps to its space (see edgeclip.train.graft).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeclip.atomic import atomic_write
from edgeclip.bundle import sha256
from edgeclip.errors import DataError, EdgeclipError
from edgeclip.progress import Progress, progress_for
from edgeclip.train.checkpoint import load_checkpoint
from edgeclip.train.data import bare_phrases, read_lines, read_pairs
from edgeclip.train.space import bank_phrase, check_distinct, read_vectors
from edgeclip.train.zeroshot import embed_pictures

# OpenAI CLIP's preprocessing (Radford et al., 2021): bicubic, shorter side to 224, centre crop.
CLIP_SIDE = 224
CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32) * 255
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32) * 255
SAVE_EVERY = 2000


def clip_pixels(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """[H, W, 3] uint8 RGB -> [3, 224, 224] float32 as the original CLIP preprocessing gives it."""
    from PIL import Image

    picture = Image.fromarray(rgb)
    scale = CLIP_SIDE / min(picture.size)
    wide, high = (max(CLIP_SIDE, round(side * scale)) for side in picture.size)
    picture = picture.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = (wide - CLIP_SIDE) // 2, (high - CLIP_SIDE) // 2
    square = np.asarray(picture.crop((left, top, left + CLIP_SIDE, top + CLIP_SIDE)), np.float32)
    return np.ascontiguousarray(((square - CLIP_MEAN) / CLIP_STD).transpose(2, 0, 1))


def image_space(onnx: Path, data: list[str], out: Path, threads: int, progress: Progress) -> None:
    """Write npz: keys [N] str, embeddings [N, E] float16, not normalised."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    except (native.NoSuchFile, native.InvalidProtobuf, native.InvalidGraph, native.Fail) as error:
        raise DataError(f"{onnx} is not an ONNX model: {error}", "give an image tower of [N, 3, 224, 224]") from error
    name = session.get_inputs()[0].name
    pairs = read_pairs(data)
    check_distinct(pairs.keys)
    teacher = sha256(onnx)
    done = _resume(out, teacher)
    progress.stage("teacher image embeddings", len(pairs))
    progress.advance(len(done))
    for key, rgb in zip(pairs.keys, pairs.pictures(), strict=True):
        if key in done:
            continue
        done[key] = session.run(None, {name: clip_pixels(rgb)[None]})[0][0].astype(np.float16)
        progress.advance(1)
        if len(done) % SAVE_EVERY == 0:
            _save(out.with_suffix(".part.npz"), done, teacher)
    _save(out, {key: done[key] for key in pairs.keys})
    out.with_suffix(".part.npz").unlink(missing_ok=True)
    progress.done()


def text_space(
    model: Path, phrases: list[Path], bank: Path | None, data: list[str], out: Path, progress: Progress
) -> None:
    """Write npz: keys [P] str (the phrases), embeddings [P, F] float16 unit vectors."""
    from edgeclip.train.sentence import SentenceEncoder

    encoder = SentenceEncoder(model)
    wanted = {line for path in phrases for line in read_lines(path)}
    if bank:
        wanted.update(bank_phrase(name) for name in read_vectors(str(bank), key="names")[0])
    if data:
        pairs = read_pairs(data)
        wanted.update(bare_phrases(pairs))
    wanted.discard("")
    ordered = sorted(wanted, key=lambda phrase: (len(phrase), phrase))
    progress.stage("teacher text embeddings", len(ordered))
    rows: dict[str, npt.NDArray[np.float16]] = {}
    for batch in _batches(ordered, 256):
        vectors = encoder.encode(batch)
        rows.update(zip(batch, vectors.numpy().astype(np.float16), strict=True))
        progress.advance(len(batch))
    _save(out, rows)
    progress.done()


def checkpoint_space(checkpoint: Path, data: list[str], out: Path, progress: Progress) -> None:
    """Write npz: keys [N] str, embeddings [N, D] float16 unit vectors of the float image tower of `checkpoint`."""
    model, facts = load_checkpoint(checkpoint)
    pairs = read_pairs(data, progress)
    check_distinct(pairs.keys)
    progress.stage("teacher image embeddings", len(pairs))
    rows = embed_pictures(model, pairs, facts.preprocess.size[0], progress)
    _save(out, dict(zip(pairs.keys, rows.numpy().astype(np.float16), strict=True)))
    progress.done()


def _batches(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _resume(out: Path, teacher: str) -> dict[str, npt.NDArray[np.float16]]:
    """What a stopped run had embedded; nothing where it was another teacher's. teacher: the digest of its file."""
    part = out.with_suffix(".part.npz")
    if not part.is_file():
        return {}
    with np.load(part) as stored:
        if "teacher" not in stored or str(stored["teacher"]) != teacher:
            return {}
        return dict(zip(stored["keys"].tolist(), stored["embeddings"], strict=True))


def _save(path: Path, rows: dict[str, npt.NDArray[np.float16]], teacher: str = "") -> None:
    arrays = {"keys": np.array(list(rows)), "embeddings": np.stack(list(rows.values()))}
    if teacher:
        arrays["teacher"] = np.array(teacher)
    with atomic_write(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes no str keys


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    image = kinds.add_parser("image", help="an ONNX image tower over the training images")
    image.add_argument("--onnx", type=Path, required=True)
    image.add_argument("--threads", type=int, default=0)
    text = kinds.add_parser("text", help="a sentence encoder over phrases and the training texts")
    text.add_argument("--model", type=Path, required=True)
    text.add_argument("--phrases", type=Path, nargs="*", default=[], help="text files, one phrase a line")
    text.add_argument("--bank", type=Path, help="npz whose names are phrases too")
    own = kinds.add_parser("checkpoint", help="the image tower of one of our own checkpoints over the training images")
    own.add_argument("--checkpoint", type=Path, required=True)
    for kind in (image, text, own):
        kind.add_argument("--data", nargs="*", default=[], help="shards, class folders or CSV; globs allowed")
        kind.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        with progress_for(sys.stderr) as progress:
            if options.kind == "image":
                image_space(options.onnx, options.data, options.out, options.threads, progress)
            elif options.kind == "checkpoint":
                checkpoint_space(options.checkpoint, options.data, options.out, progress)
            else:
                text_space(options.model, options.phrases, options.bank, options.data, options.out, progress)
    except EdgeclipError as error:
        print(f"error: {error.message}\n  fix: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
