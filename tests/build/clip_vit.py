"""A vision tower as CLIP has them, with QuickGELU, of any size and untrained: what the search is tested on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

QUICK = 1.702


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), as the original CLIP has it."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(QUICK * x)


class Block(nn.Module):
    """Pre-norm attention and MLP; query, key and value in one product."""

    def __init__(self, width: int, heads: int, hidden: int, activation: nn.Module, epsilon: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, epsilon)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, epsilon)
        self.fc1 = nn.Linear(width, hidden)
        self.act = activation
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, w = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, w))
        mlp: Tensor = self.fc2(self.act(self.fc1(self.norm2(x))))
        return x + mlp


class ClipViT(nn.Module):
    """[N, 3, S, S] normalised pixels -> [N, dim], not normalised. size: S."""

    def __init__(
        self, size: int, patch: int, width: int, heads: int, hidden: int, depth: int, dim: int, act: nn.Module,
        epsilon: float = 1e-5,
    ) -> None:  # fmt: skip
        super().__init__()
        self.size, self.dim = size, dim
        self.patch = nn.Conv2d(3, width, patch, patch, bias=False)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, width))
        self.pre = nn.LayerNorm(width, epsilon)
        self.blocks = nn.ModuleList(Block(width, heads, hidden, act, epsilon) for _ in range(depth))
        self.norm = nn.LayerNorm(width, epsilon)
        self.head = nn.Linear(width, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = self.pre(torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position)
        for block in self.blocks:
            x = block(x)
        embedding: Tensor = self.head(self.norm(x[:, 0]))
        return embedding
