"""What a dual encoder knows: zero-shot top-1/top-5 and retrieval on a labelled set, from float towers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgeclip.progress import Progress, Silent
from edgeclip.train.data import PairSet, centre_square
from edgeclip.train.towers import DualEncoder

TextEncoder = Callable[[list[str]], Tensor]  # phrases -> [L, D] unit rows
EMBED_BATCH = 128


def embed_pictures(model: DualEncoder, pairs: PairSet, side: int, progress: Progress | None = None) -> Tensor:
    """[N, D] unit embeddings of every picture's centre square, no augmentation."""
    progress = progress or Silent()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(pairs), EMBED_BATCH):
            stop = min(start + EMBED_BATCH, len(pairs))
            pixels = np.stack([centre_square(pairs.picture(index), side) for index in range(start, stop)])
            rows.append(model.encode_image(normalised(torch.from_numpy(pixels))))
            progress.advance(stop - start)
    return torch.cat(rows)


def normalised(pixels: Tensor) -> Tensor:
    """[N, H, W, 3] uint8 RGB -> [N, 3, H, W] float32 in -1..1 (mean 0.5, std 0.5), channels last in memory."""
    return (pixels.permute(0, 3, 1, 2).float() - 127.5) / 127.5


def label_bank(names: list[str], templates: tuple[str, ...], encode: TextEncoder) -> Tensor:
    """[L, D]: each name's mean over the templates, on the sphere."""
    vectors = encode([template.replace("{}", name) for name in names for template in templates])
    return functional.normalize(vectors.reshape(len(names), len(templates), -1).mean(1), dim=1)


def accuracy(images: Tensor, bank: Tensor, pairs: PairSet, labels: list[str]) -> dict[str, float]:
    """top1, top5 (fractions) over the pictures whose class is among `labels` [L]; bank: [L, D]."""
    number = {label.lower(): index for index, label in enumerate(labels)}
    wanted = torch.tensor([number.get(pairs.classes[index], -1) for index in pairs.class_ids])
    kept = wanted >= 0
    order = (images[kept] @ bank.T).topk(min(5, len(labels)), dim=1).indices
    hits = order == wanted[kept][:, None]
    return {
        "top1": hits[:, 0].float().mean().item(),
        "top5": hits.any(1).float().mean().item(),
        "n": float(kept.sum().item()),
    }


def retrieval(images: Tensor, pairs: PairSet, encode: TextEncoder) -> dict[str, float]:
    """Image to text R@1, R@5 over the distinct first texts of the set."""
    first = [texts[0] for texts in pairs.texts]
    distinct = sorted(set(first))
    number = {text: index for index, text in enumerate(distinct)}
    wanted = torch.tensor([number[text] for text in first])
    order = (images @ encode(distinct).T).topk(min(5, len(distinct)), dim=1).indices
    hits = order == wanted[:, None]
    return {"r1": hits[:, 0].float().mean().item(), "r5": hits.any(1).float().mean().item()}
