"""Small data sets that can be learnt in seconds, their configuration, and teachers of them, all made here."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

COLOURS = {
    "red": (210, 30, 30),
    "green": (30, 190, 40),
    "blue": (30, 50, 220),
    "yellow": (220, 210, 30),
    "pink": (230, 120, 200),
    "black": (15, 15, 15),
}
Picture = tuple[str, np.ndarray]  # (label, [H, W, 3] uint8 RGB)

TOWERS: dict[str, Any] = {
    "image": {"kind": "conv", "stem": 8, "widths": [16, 24], "depths": [1, 1], "neck": 32},
    "text": {"vocabulary": 120, "context_length": 12, "width": 32, "depth": 1, "heads": 2},
    "size": 16,
    "dim": 8,
}
BOTH: dict[str, Any] = {
    "name": "pairs", "train": ["image", "text"], "batch": 16, "learning_rate": 3e-3, "crop": [0.5, 1.0],
}  # fmt: skip
BRIEF = {**BOTH, "batch": 32, "epochs": 1}


def pictures(each: int, seed: int = 0, names: Sequence[str] = tuple(COLOURS)) -> list[Picture]:
    """`each` grainy pictures of every colour, sizes all different, the colours taking turns."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(each):
        for name in names:
            high, wide = random.integers(18, 30, 2)
            grain = random.integers(-15, 16, (high, wide, 3))
            made.append((name, np.clip(np.array(COLOURS[name]) + grain, 0, 255).astype(np.uint8)))
    return made


def png(rgb: np.ndarray) -> bytes:
    return cv2.imencode(".png", rgb[:, :, ::-1])[1].tobytes()


def write_tar(path: Path, made: Sequence[Picture], texts: Sequence[Sequence[str]] | None = None) -> Path:
    """A shard; the texts of a picture are its label where none are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for index, (label, rgb) in enumerate(made):
            facts = json.dumps({"texts": list(texts[index]) if texts else [label], "label": label}).encode()
            for name, data in ((f"{index:04}.png", png(rgb)), (f"{index:04}.json", facts)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def write_folders(path: Path, made: Sequence[Picture]) -> Path:
    for index, (label, rgb) in enumerate(made):
        place = path / label.replace(" ", "_")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index:04}.png").write_bytes(png(rgb))
    return path


def write_csv(path: Path, made: Sequence[Picture]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["path", "text"])
        for index, (label, rgb) in enumerate(made):
            (path.parent / f"{index:04}.png").write_bytes(png(rgb))
            rows.writerow([f"{index:04}.png", label])
    return path


def write_config(folder: Path, phases: Sequence[dict[str, Any]], **values: Any) -> Path:
    """A configuration of one-threaded training on `folder`/train.tar and dev.tar, which are made where missing."""
    for name, each, seed in (("train", 16, 1), ("dev", 6, 2)):
        if not (folder / f"{name}.tar").exists():
            write_tar(folder / f"{name}.tar", pictures(each, seed))
    config = {
        "name": "toy",
        "seed": 3,
        "threads": 1,
        "ema": 0.9,
        "towers": TOWERS,
        "data": {"train": [str(folder / "train.tar")], "dev": str(folder / "dev.tar")},
        "templates": ["a photo of a {}", "{}"],
        "phases": list(phases),
        **values,
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def write_teachers(folder: Path, made: Sequence[Picture], stem: str = "train", dim: int = 24) -> dict[str, str]:
    """Teachers that know the colours: image vectors (with what all share), their bank of names, and text vectors."""
    random = np.random.default_rng(9)
    names = list(COLOURS)
    centres, common = random.normal(size=(len(names), dim)), 2 * random.normal(size=dim)
    rows = np.stack([centres[names.index(label)] + 0.3 * random.normal(size=dim) for label, _ in made]) + common
    keys = np.array([f"{stem}/{index:04}" for index in range(len(made))])
    np.savez(folder / "image.npz", keys=keys, embeddings=rows.astype(np.float16))
    np.savez(folder / "bank.npz", names=np.array(names), embeddings=centres.astype(np.float16))
    phrases = [*names, "crimson"]
    features = random.normal(size=(len(phrases), 20))
    features[-1] = features[0] + 0.2 * random.normal(size=20)  # crimson means nearly what red does
    np.savez(folder / "text.npz", keys=np.array(phrases), embeddings=features.astype(np.float16))
    return {kind: str(folder / f"{kind}.npz") for kind in ("image", "bank", "text")}


def history(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "history.jsonl").read_text(encoding="utf-8").splitlines()]


def saved(out: Path) -> dict[str, Any]:
    return torch.load(out / "state.pt", weights_only=True)  # type: ignore[no-any-return]
