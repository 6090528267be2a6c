"""The process that exports: it alone loads torch and the converters, so that their chatter and memory end with it.

Run by export.py as `python -m edgeclip.build.exporter CHECKPOINT DIRECTORY TARGET...`; one JSON line per finished
graph goes to standard output, everything the libraries say goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgeclip.build.graphs import ImageGraph, TextGraph, space_id
from edgeclip.errors import EdgeclipError
from edgeclip.train.checkpoint import CheckpointFacts, load_checkpoint
from edgeclip.types import Engine

OPSET = 18
SAMPLES = 16  # inputs on which an exported graph must match torch


def main(arguments: list[str]) -> int:
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        export_all(Path(arguments[0]), Path(arguments[1]), arguments[2:], report)
    except EdgeclipError as error:
        say(report, {"error": error.message, "hint": error.hint, "exit_code": error.exit_code})
        return 1
    return 0


def say(report: IO[str], line: dict[str, Any]) -> None:
    report.write(json.dumps(line) + "\n")
    report.flush()


def export_all(checkpoint: Path, directory: Path, graphs: list[str], report: IO[str]) -> None:
    """Write each of `graphs` ("image.tflite", "text.onnx", ...) to `directory` and report its cosine to torch."""
    model, facts = load_checkpoint(checkpoint)
    say(report, {"facts": facts_of(facts), "space": space_id(model)})
    height, width = facts.preprocess.size
    roles: dict[str, tuple[nn.Module, npt.NDArray[Any]]] = {
        "image": (ImageGraph(model.image, facts.preprocess), sample_images(height, width)),
        "text": (TextGraph(model.text), sample_ids(facts)),
    }
    for graph in graphs:
        role, form = graph.split(".")
        module, inputs = roles[role]
        module = module.eval().requires_grad_(False)
        path = directory / graph
        if form == "tflite":
            write_tflite(module, inputs[:1], path)
        else:
            write_onnx(module, inputs[:1], path)
        got = run(path, inputs)
        with torch.no_grad():
            want = np.concatenate([module(torch.from_numpy(row[None])).numpy() for row in inputs])
        say(report, {"graph": graph, "cosine": float((got * want).sum(1).min()), "norms": norm_layers(module)})


def facts_of(facts: CheckpointFacts) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(facts)
    data["pad_id"] = facts.towers.text.pad_id
    data["context_length"] = facts.towers.text.context_length
    data["dim"] = facts.towers.dim
    return data


def norm_layers(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.LayerNorm) for layer in module.modules())


def sample_images(height: int, width: int) -> npt.NDArray[np.uint8]:
    """[SAMPLES, H, W, 3]: smooth colour fields with noise on them, which is nearer to photographs than noise alone."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(SAMPLES, 3, 5, 5, generator=random) * 255.0
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    noisy = smooth + 12.0 * torch.randn(smooth.shape, generator=random)
    return noisy.clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def sample_ids(facts: CheckpointFacts) -> npt.NDArray[np.int32]:
    """[SAMPLES, T]: prompts of every length, padded as the tokenizer pads."""
    tower = facts.towers.text
    random = np.random.default_rng(0)
    ids = np.full((SAMPLES, tower.context_length), tower.pad_id, np.int32)
    words = np.array([i for i in range(tower.vocabulary) if i != tower.pad_id], np.int32)
    for row, length in enumerate(np.linspace(1, tower.context_length, SAMPLES).round().astype(int)):
        ids[row, :length] = random.choice(words, length)
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


def run(path: Path, inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    graph: Engine
    if path.suffix == ".tflite":
        from edgeclip.build.tflite import TFLiteGraph

        graph = TFLiteGraph(path)
    else:
        from edgeclip.build.onnxgraph import OnnxGraph

        graph = OnnxGraph(path)
    return np.concatenate([graph.run(row[None]).copy() for row in inputs])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
