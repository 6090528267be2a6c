"""The two encoders this project trains: a small convolution tower or a plain ViT for images, a transformer for text.

Only operations that TensorRT, LiteRT and ONNX Runtime run in INT8 are used in the image tower's body.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

Positive = Annotated[int, msgspec.Meta(ge=1, le=65536)]


class ConvTower(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="conv"):
    """Residual tower (He et al., 2016, basic blocks, ReLU): stem to 1/4, then a stage per width, halving each time."""

    stem: Positive = 32
    widths: tuple[Positive, ...] = (64, 128, 176)
    depths: tuple[Positive, ...] = (2, 2, 2)
    neck: Positive = 512

    def __post_init__(self) -> None:
        if not self.widths or len(self.widths) != len(self.depths):
            raise ValueError(f"{len(self.widths)} widths need as many depths, not {len(self.depths)}")


class ViTTower(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="vit"):
    """Plain pre-norm ViT (Dosovitskiy et al., 2021): class token, LayerNorm, GELU."""

    patch: Positive = 8
    width: Positive = 192
    depth: Positive = 8
    heads: Positive = 3
    mlp_ratio: Positive = 4

    def __post_init__(self) -> None:
        _check_heads(self.width, self.heads)


class TextTower(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pre-norm bidirectional transformer over word pieces, mean-pooled over the ids that are not padding."""

    vocabulary: Positive = 5000
    context_length: Positive = 24
    width: Positive = 128
    depth: Positive = 3
    heads: Positive = 4
    pad_id: int = 0

    def __post_init__(self) -> None:
        _check_heads(self.width, self.heads)


class Towers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Both towers and the space they share. size: image side in pixels; dim: embedding dimensions."""

    image: ConvTower | ViTTower
    text: TextTower
    size: Positive = 96
    dim: Positive = 256

    def __post_init__(self) -> None:
        if isinstance(self.image, ViTTower) and self.size % self.image.patch:
            raise ValueError(f"size {self.size} is not a multiple of the patch of {self.image.patch}")


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"a width of {width} cannot be shared by {heads} heads")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm; the identity is average-pooled and projected where the shape changes."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width_out)
        self.project: nn.Module = nn.Identity()
        if stride != 1 or width_in != width_out:
            self.project = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity(),
                nn.Conv2d(width_in, width_out, 1, bias=False),
                nn.BatchNorm2d(width_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        out: Tensor = functional.relu(self.norm2(self.conv2(y)) + self.project(x))
        return out


class ConvImageTower(nn.Module):
    """[N, 3, S, S] normalised pixels -> [N, dim], not normalised."""

    def __init__(self, config: ConvTower, dim: int) -> None:
        super().__init__()
        half = config.stem
        self.stem = nn.Sequential(
            nn.Conv2d(3, half, 3, 2, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(),
            nn.Conv2d(half, config.widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(config.widths[0]), nn.ReLU(),
        )  # fmt: skip
        blocks: list[nn.Module] = []
        width = config.widths[0]
        for stage, (wide, deep) in enumerate(zip(config.widths, config.depths, strict=True)):
            for block in range(deep):
                blocks.append(BasicBlock(width, wide, 2 if stage > 0 and block == 0 else 1))
                width = wide
        self.blocks = nn.Sequential(*blocks)
        self.neck = nn.Sequential(nn.Conv2d(width, config.neck, 1, bias=False), nn.BatchNorm2d(config.neck), nn.ReLU())
        self.head = nn.Linear(config.neck, dim)
        for module in self.modules():
            if isinstance(module, BasicBlock):
                nn.init.zeros_(module.norm2.weight)

    def features(self, x: Tensor) -> Tensor:
        return torch.flatten(functional.adaptive_avg_pool2d(self.neck(self.blocks(self.stem(x))), 1), 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x))
        return out


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP. mask: [N, 1, 1, T] added to the attention logits, or None."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, mlp_ratio * width)
        self.fc2 = nn.Linear(mlp_ratio * width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        n, t, w = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, w))
        out: Tensor = x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))
        return out


class ViTImageTower(nn.Module):
    """[N, 3, S, S] normalised pixels -> [N, dim], not normalised."""

    def __init__(self, config: ViTTower, size: int, dim: int) -> None:
        super().__init__()
        count = (size // config.patch) ** 2
        self.patch = nn.Conv2d(3, config.width, config.patch, config.patch)
        self.token = nn.Parameter(torch.randn(1, 1, config.width) * 0.02)
        self.position = nn.Parameter(torch.randn(1, count + 1, config.width) * 0.02)
        self.blocks = nn.ModuleList(
            TransformerBlock(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, dim)

    def features(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x[:, 0])
        return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x))
        return out


class TextEncoder(nn.Module):
    """[N, T] int ids -> [N, dim], not normalised."""

    def __init__(self, config: TextTower, dim: int) -> None:
        super().__init__()
        self.pad_id = config.pad_id
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Parameter(torch.randn(1, config.context_length, config.width) * 0.02)
        self.blocks = nn.ModuleList(TransformerBlock(config.width, config.heads, 4) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, dim)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        keep = (ids != self.pad_id).to(self.position.dtype)  # [N, T]
        mask = ((keep - 1.0) * 1e4)[:, None, None, :]
        x = self.embed(ids) + self.position[:, : ids.shape[1]]
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x) * keep[:, :, None]
        out: Tensor = self.head(x.sum(1) / keep.sum(1, keepdim=True).clamp(min=1.0))
        return out


class DualEncoder(nn.Module):
    """Image and text tower with a learned temperature and bias (Radford et al., 2021; Zhai et al., 2023)."""

    def __init__(self, config: Towers) -> None:
        super().__init__()
        self.config = config
        if isinstance(config.image, ConvTower):
            self.image: nn.Module = ConvImageTower(config.image, config.dim)
        else:
            self.image = ViTImageTower(config.image, config.size, config.dim)
        self.text = TextEncoder(config.text, config.dim)
        self.log_scale = nn.Parameter(torch.tensor(2.6593))  # log(1 / 0.07)
        self.bias = nn.Parameter(torch.tensor(0.0))

    def encode_image(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] normalised pixels -> [N, dim] unit vectors."""
        return functional.normalize(self.image(pixels), dim=-1)

    def encode_text(self, ids: Tensor) -> Tensor:
        """[N, T] int ids -> [N, dim] unit vectors."""
        return functional.normalize(self.text(ids), dim=-1)
