"""The process that exports: it alone loads torch and the converters, so that their chatter and memory end with it.

Run by export.py as `python -m edgeclip.build.exporter PLACE DIRECTORY TARGET...`, PLACE being a Place as JSON; one JSON
line per finished graph goes to standard output, everything the libraries say goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgeclip.build.checkpoints import load
from edgeclip.build.checkpoints.encoders import Bank, Encoders, TextSide
from edgeclip.build.checkpoints.norms import layer_norms
from edgeclip.build.checkpoints.place import Place
from edgeclip.build.checkpoints.sentences import SENTENCES
from edgeclip.build.graphs import ImageGraph, TextGraph, space_id
from edgeclip.build.opened import engine_on, rows_of
from edgeclip.build.powers import multiply_cubes
from edgeclip.errors import DISK, UNAVAILABLE, DataError, EdgeclipError, reason_of
from edgeclip.runtime.tokenizer import load_tokenizer

Array = npt.NDArray[Any]

OPSET = 18
BANK = "text.npz"
MOST_BYTES = (1 << 31) - (1 << 26)  # of weights in one file: protobuf and FlatBuffers end at 2 GiB, the graph included
SAMPLES = 16  # inputs on which an exported graph must match torch


def main(arguments: list[str]) -> int:
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        place = msgspec.json.decode(arguments[0], type=Place)
        export_all(place, Path(arguments[1]), arguments[2:], report)
    except EdgeclipError as error:
        say(report, {"error": error.message, "hint": error.hint, "exit_code": error.exit_code})
        return 1
    except OSError as error:
        if error.errno not in DISK:
            raise
        full, hint = Path(arguments[1]).parent, "make room, or give another --work"
        say(report, {"error": f"{full}: {reason_of(error)}", "hint": hint, "exit_code": UNAVAILABLE})
        return 1
    return 0


def say(report: IO[str], line: dict[str, Any]) -> None:
    report.write(json.dumps(line) + "\n")
    report.flush()


def export_all(place: Place, directory: Path, graphs: list[str], report: IO[str]) -> None:
    """Write each of `graphs` ("image.tflite", "text.onnx", ...) to `directory` and report how near it comes.

    To the torch module it was exported from, and to what the checkpoint's own library makes of the same frames, or of
    sentences that it tokenizes itself.
    """
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operator is one that no exporter knows
    encoders = load(place)
    height, width = encoders.preprocess.size
    roles: dict[str, tuple[nn.Module, Array]] = {
        "image": (ImageGraph(encoders.image, encoders.preprocess), sample_images(height, width))
    }
    if isinstance(encoders.text, TextSide):
        roles["text"] = (TextGraph(encoders.text.encoder), sentence_ids(encoders.text))
    else:
        write_bank(encoders.text, directory / BANK)
    for role, (module, _) in roles.items():
        require_size(role, module)
    space = space_id(encoders.image, encoders.text.encoder if isinstance(encoders.text, TextSide) else None)
    say(report, {"facts": facts_of(encoders), "space": space})
    originals = {role: original_rows(encoders, role, inputs) for role, (_, inputs) in roles.items()}
    for graph in graphs:
        role, form = graph.split(".")
        module, inputs = roles[role]
        module = module.eval().requires_grad_(False)
        path = directory / graph
        if form == "tflite":
            write_tflite(module, inputs[:1], path)
        else:
            write_onnx(module, inputs[:1], path)
        got = rows_of(engine_on(path), inputs[:, None])
        with torch.no_grad():
            want = np.concatenate([module(torch.from_numpy(row[None])).numpy() for row in inputs])
        cosine = {"cosine": lowest_cosine(got, want)}
        if (original := originals[role]) is not None:
            cosine["original"] = lowest_cosine(got, original)
        say(report, {"graph": graph, "norms": layer_norms(module, torch.from_numpy(inputs[:1])), **cosine})


def require_size(role: str, module: nn.Module) -> None:
    """Raises DataError for a tower whose float weights do not fit into one file."""
    size = 4 * sum(tensor.numel() for tensor in (*module.parameters(), *module.buffers()))
    if size > MOST_BYTES:
        raise DataError(
            f"the {role} tower has {size / 1e9:.1f} GB of float weights, and ONNX and TFLite files end at 2 GiB",
            "give a smaller model; where it is the text tower, its image tower alone can be built: --image-onnx with "
            "--text-bank",
        )


def facts_of(encoders: Encoders) -> dict[str, Any]:
    text = encoders.text
    facts = {name: getattr(encoders, name) for name in ("name", "dim", "preprocess", "scoring", "templates")}
    facts |= {name: getattr(encoders, name) for name in ("origin", "licence", "notes")}
    if isinstance(text, TextSide):
        facts |= {"tokenizer": text.tokenizer, "context_length": text.context_length, "pad_id": text.pad_id}
    data: dict[str, Any] = msgspec.to_builtins(facts)
    return data


def original_rows(encoders: Encoders, role: str, inputs: Array) -> Array | None:
    if encoders.original is None:
        return None
    return encoders.original.image(inputs) if role == "image" else encoders.original.text(SENTENCES)


def lowest_cosine(first: Array, second: Array) -> float:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(1) / lengths).min())


def write_bank(bank: Bank, path: Path) -> None:
    np.savez(path, names=np.array(bank.names), embeddings=bank.embeddings)


def sample_images(height: int, width: int) -> npt.NDArray[np.uint8]:
    """[SAMPLES, H, W, 3]: smooth colour fields with noise on them, which is nearer to photographs than noise alone."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(SAMPLES, 3, 5, 5, generator=random) * 255.0
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    noisy = smooth + 12.0 * torch.randn(smooth.shape, generator=random)
    return noisy.clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def sentence_ids(text: TextSide) -> npt.NDArray[np.int32]:
    """[N, T]: the sample sentences as a device will tokenize them."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(text.tokenizer)
        file.flush()
        tokenizer = load_tokenizer(file.name)
    ids = tokenizer.encode_batch(SENTENCES, text.context_length, text.pad_id)
    if 2 * len(np.unique(ids, axis=0)) < len(ids):
        raise DataError(
            f"to the tokenizer {len(ids)} sentences are {len(np.unique(ids, axis=0))}: it knows hardly any word",
            "its vocabulary is not that of the checkpoint, or empty",
        )
    size = next((layer.num_embeddings for layer in text.encoder.modules() if isinstance(layer, nn.Embedding)), None)
    if size is not None and ids.max() >= size:
        raise DataError(
            f"the tokenizer makes the id {ids.max()}, and the text tower has {size} of them",
            "the tokenizer's files are those of another checkpoint",
        )
    return ids


def write_tflite(module: nn.Module, example: npt.NDArray[Any], path: Path) -> None:
    import litert_torch

    litert_torch.convert(module, (torch.from_numpy(example),)).export(str(path))


def write_onnx(module: nn.Module, example: npt.NDArray[Any], path: Path) -> None:
    program = torch.onnx.export(
        module,
        (torch.from_numpy(example),),
        dynamo=True,
        opset_version=OPSET,
        input_names=["input"],
        output_names=["vector"],  # "embedding" is taken: torch names the table lookup so
    )
    if program is None:
        raise EdgeclipError(f"torch.onnx.export returned no program for {path.name}")
    program.save(str(path), external_data=False)
    multiply_cubes(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
