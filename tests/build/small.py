"""A small checkpoint's facts with a real tokenizer, pictures with real texture, and recipes, all made here."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from edgeclip.build.exporter import sample_images, write_onnx
from edgeclip.bundle import Preprocess, Scoring
from edgeclip.train.checkpoint import CheckpointFacts, save_checkpoint
from edgeclip.train.towers import ConvTower, DualEncoder, TextTower, Towers, ViTTower

WORDS = ["a", "photo", "of", "dog", "cat", "red", "cup", "car", "tree", "house", "##s"]


def tokenizer_json() -> str:
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    return json.dumps(
        {
            "version": "1.0",
            "model": {"type": "WordPiece", "vocab": vocabulary, "unk_token": "[UNK]"},
            "normalizer": {"type": "BertNormalizer"},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        }
    )


def random_checkpoint(path: Path, facts: CheckpointFacts, seed: int = 0) -> None:
    """A checkpoint with random weights and plausible batch-norm statistics."""
    torch.manual_seed(seed)
    model = DualEncoder(facts.towers)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model.image(torch.randn(16, 3, facts.towers.size, facts.towers.size))
    save_checkpoint(path, model.eval(), facts, half=False)


def facts(image: ConvTower | ViTTower, size: int) -> CheckpointFacts:
    text = TextTower(vocabulary=128, context_length=12, width=32, depth=1, heads=2)
    return CheckpointFacts(
        name="small",
        towers=Towers(image, text, size=size, dim=16),
        preprocess=Preprocess((size, size), "shortest", "bicubic", (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)),
        scoring=Scoring("softmax", 100.0),
        templates=("a photo of a {}", "{}"),
        tokenizer=tokenizer_json(),
    )


def textured(count: int, seed: int = 0, height: int = 60, width: int = 80) -> list[np.ndarray]:
    """Distinct BGR pictures: smooth colour fields, edges and grain."""
    random = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        coarse = random.integers(0, 256, (4, 5, 3), np.uint8)
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        left, top = random.integers(0, width - 20), random.integers(0, height - 20)
        picture[top : top + 20, left : left + 20] = random.integers(0, 256, 3)
        picture += random.integers(-10, 11, picture.shape, np.int16)
        pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
    return pictures


def write_pictures(folder: Path, pictures: list[np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{i:03}.png"), picture)
    return folder


def write_recipe(folder: Path, **values: object) -> Path:
    """small.yaml, with no search for a quantization unless one is given: that takes long."""
    recipe = folder / "small.yaml"
    (folder / "plain.yaml").write_text("{}\n")
    lines = {"name": "small", "checkpoint": "small.safetensors", "quantization": "plain.yaml", **values}
    recipe.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in lines.items()))
    return recipe


def write_graph(module: nn.Module, path: Path, size: int) -> Path:
    """Export as the build does, whose process of its own does not mind torch's warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_onnx(module.eval().requires_grad_(False), sample_images(size, size)[:1], path)
    return path
