"""Two plain ONNX files, an image tower and a text tower, with a model.yaml that says what they cannot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx

from edgeclip.build.checkpoints import onnx_rewrite
from edgeclip.build.checkpoints.encoders import CLIP_TEMPLATES, Encoders, Frames, Rows, TextSide
from edgeclip.build.checkpoints.onnx_tower import OnnxTower
from edgeclip.build.checkpoints.place import Place
from edgeclip.bundle import Preprocess, Scoring, Size
from edgeclip.errors import DataError
from edgeclip.runtime.tokenizer import load_tokenizer
from edgeclip.yamlfile import load_yaml

PAIR = "model.yaml"


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """model.yaml. image: takes [N, 3, H, W] float, normalised; text: [N, T] ids. File names beside model.yaml."""

    preprocess: Preprocess
    scoring: Scoring
    context_length: Size
    image: str = "image.onnx"
    text: str = "text.onnx"
    tokenizer: str = "tokenizer.json"
    pad_id: int = 0
    templates: tuple[str, ...] = CLIP_TEMPLATES
    licence: str = ""


class OnnxOriginal:
    """The graphs as they came, in onnxruntime; of dynamic INT8 ones their float form."""

    def __init__(self, image: bytes, preprocess: Preprocess, text: bytes | None = None, pair: Any = None) -> None:
        self._image, self._facts, self._text, self._pair = image, preprocess, text, pair

    def image(self, frames: Frames) -> Rows:
        mean, std = (np.array(value, np.float32) for value in (self._facts.mean, self._facts.std))
        pixels = ((frames.astype(np.float32) / 255.0 - mean) / std).transpose(0, 3, 1, 2)
        return outputs(self._image, pixels)

    def text(self, sentences: Sequence[str]) -> Rows:
        if self._text is None or self._pair is None:
            raise DataError("an image tower alone has no texts")
        tokenizer = load_tokenizer(self._pair[0])
        return outputs(
            self._text, tokenizer.encode_batch(sentences, self._pair[1].context_length, self._pair[1].pad_id)
        )


def outputs(model: bytes, inputs: Any) -> Rows:
    """The embedding of every row, run one by one."""
    from edgeclip.build.onnxgraph import session

    run = session(model)
    taken = run.get_inputs()[0]
    kind = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}[taken.type]
    return np.concatenate([run.run(None, {taken.name: row[None].astype(kind)})[0] for row in inputs]).astype(np.float32)


def load(place: Place) -> Encoders:
    """Raises ConfigError for model.yaml, DataError for graphs that cannot be carried over."""
    folder = Path(place.path)
    pair = load_yaml(folder / PAIR, Pair)
    for name in (pair.image, pair.text, pair.tokenizer):
        if not (folder / name).is_file():
            raise DataError(f"{folder / PAIR} names {name}, which is missing", "put it beside model.yaml")
    height, width = pair.preprocess.size
    image, image_float, notes = tower(folder / pair.image, (1, 3, height, width))
    text, text_float, text_notes = tower(folder / pair.text, (1, pair.context_length))
    tokenizer = folder / pair.tokenizer
    load_tokenizer(tokenizer)
    return Encoders(
        name=place.name,
        image=image,
        text=TextSide(text, tokenizer.read_text(encoding="utf-8"), pair.context_length, pair.pad_id),
        dim=width_of(image, (1, 3, height, width)),
        preprocess=pair.preprocess,
        scoring=place.facts.scoring or pair.scoring,
        templates=place.facts.templates or pair.templates,
        origin=place.origin or f"{pair.image} and {pair.text}",
        licence=place.licence or pair.licence,
        notes=(*notes, *text_notes),
        original=OnnxOriginal(image_float, pair.preprocess, text_float, (tokenizer, pair)),
    )


def tower(path: Path, shape: tuple[int, ...]) -> tuple[OnnxTower, bytes, tuple[str, ...]]:
    """(the tower as a module, its float graph as onnxruntime runs it, what was done to it)."""
    model = onnx_rewrite.read(path)
    halved = onnx_rewrite.widen(model)
    name = input_of(model, path, len(shape))
    unfolded = onnx_rewrite.unfold_dynamic(model)
    keep = embedding_of(model)
    for output in [item for item in model.graph.output if item.name != keep]:
        model.graph.output.remove(output)
    plain = bytes(model.SerializeToString())
    try:
        simple = onnx_rewrite.simplify(model, name, shape, keep)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise DataError(f"{path}: {str(error).splitlines()[0]}", "the graph is damaged: export it again") from error
    norms = onnx_rewrite.fuse_layer_norms(simple)
    notes = [f"{path.name}: half precision made float32, its weights at half precision"] if halved else []
    if unfolded:
        notes.append(
            f"{path.name}: {unfolded} dynamic INT8 products unfolded to float, their weights at int8 precision"
        )
    if norms:
        notes.append(f"{path.name}: {norms} decomposed LayerNorms made native")
    return OnnxTower(simple), plain, tuple(notes)


def input_of(model: onnx.ModelProto, path: Path, dimensions: int) -> str:
    """The one input that is not stored. Raises DataError for several, or one of other dimensions or type."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in stored]
    if len(inputs) != 1:
        names = ", ".join(item.name for item in inputs)
        raise DataError(f"{path} takes {len(inputs)} inputs ({names}), and a tower takes one", "export one tower alone")
    taken = inputs[0].type.tensor_type
    kinds = {4: (onnx.TensorProto.FLOAT,), 2: (onnx.TensorProto.INT64, onnx.TensorProto.INT32)}[dimensions]
    what = "[N, 3, H, W] float pixels" if dimensions == 4 else "[N, T] ids"
    stated = [dimension.dim_value for dimension in taken.shape.dim]
    fits = len(stated) == dimensions and taken.elem_type in kinds and (dimensions == 2 or stated[1] in (0, 3))
    if not fits or stated[0] > 1:
        found = f"{[size or 'N' for size in stated]} {onnx.TensorProto.DataType.Name(taken.elem_type).lower()}"
        batch = " with an open batch, or one of 1" if fits else ""
        raise DataError(f"{path}: its input {inputs[0].name} is {found}, and not {what}{batch}", "export the tower so")
    for tensor in [item for item in model.graph.input if item.name in stored]:
        model.graph.input.remove(tensor)
    return str(inputs[0].name)


def embedding_of(model: onnx.ModelProto) -> str:
    """The output that is an embedding: the one of two dimensions, or the first."""
    named = [item for item in model.graph.output if len(item.type.tensor_type.shape.dim) == 2]
    return str((named or list(model.graph.output))[0].name)


def width_of(image: OnnxTower, shape: tuple[int, ...]) -> int:
    import torch

    with torch.no_grad():
        result = image(torch.zeros(shape))
    if result.ndim != 2:
        raise DataError(
            f"the image tower returns {list(result.shape)}, and not [N, dim]", "export its pooled embedding"
        )
    return int(result.shape[1])
