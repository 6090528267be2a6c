"""What gets exported: an encoder with its host-side work folded in. torch lives here and in exporter.py."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from edgeclip.bundle import Preprocess


class ImageGraph(nn.Module):
    """[1, H, W, 3] uint8 RGB -> [1, dim] float32 unit vectors: mean, std and layout in front, the norm behind."""

    gain: Tensor
    shift: Tensor

    def __init__(self, encoder: nn.Module, facts: Preprocess) -> None:
        super().__init__()
        self.image = encoder
        mean, std = torch.tensor(facts.mean), torch.tensor(facts.std)
        self.register_buffer("gain", 1.0 / (255.0 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels.to(torch.float32) * self.gain + self.shift
        return unit(self.image(x.permute(0, 3, 1, 2)))


class TextGraph(nn.Module):
    """[1, T] int32 ids -> [1, dim] float32 unit vectors."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.text = encoder

    def forward(self, ids: Tensor) -> Tensor:
        return unit(self.text(ids))


def unit(x: Tensor) -> Tensor:
    """Rows at length 1, with static shapes only (functional.normalize exports an Expand)."""
    return x / torch.sqrt((x * x).sum(-1, keepdim=True).clamp_min(1e-12))


def space_id(image: nn.Module, text: nn.Module | None) -> str:
    """The embedding space: a digest of the float encoders' tensors, whatever file or precision they came in.

    Of an image tower alone, its own: banks of texts may come and go in the same space.
    """
    towers = {"image": image} if text is None else {"image": image, "text": text}
    tensors = {f"{role}.{name}": value for role, tower in towers.items() for name, value in tower.state_dict().items()}
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        if name.endswith("num_batches_tracked"):
            continue
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().astype("<f4").tobytes())
    return f"sha256:{digest.hexdigest()}"
