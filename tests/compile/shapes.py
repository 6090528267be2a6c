"""Image towers of the shapes people build, in plain torch with random weights: for their graphs, not for their answers.

nano and the ViTs are edgeclip.train's. ResNet follows CLIP's RN50: three-convolution stem, average-pooled strides,
attention pool. The hybrid follows MobileCLIP2-S0 as it runs after reparameterisation: depthwise mixers, convolutional
MLPs with layer scale, self-attention in the last stage, a squeeze-and-excite head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeclip.train.towers import ConvImageTower, ConvTower, ViTImageTower, ViTTower


class Bottleneck(nn.Module):
    def __init__(self, wide: int, narrow: int, stride: int) -> None:
        super().__init__()
        out = narrow * 4
        self.body = nn.Sequential(
            *conv(wide, narrow, 1), nn.ReLU(), *conv(narrow, narrow, 3), nn.ReLU(),
            nn.AvgPool2d(stride) if stride > 1 else nn.Identity(), *conv(narrow, out, 1),
        )  # fmt: skip
        self.short: nn.Module = nn.Identity()
        if stride > 1 or wide != out:
            self.short = nn.Sequential(nn.AvgPool2d(stride) if stride > 1 else nn.Identity(), *conv(wide, out, 1))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.short(x))


def conv(wide: int, out: int, size: int, stride: int = 1, groups: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(wide, out, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(out)


class AttentionPool(nn.Module):
    """The mean token attends to all: [N, C, S, S] -> [N, dim]."""

    def __init__(self, tokens: int, width: int, heads: int, dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.position = nn.Parameter(torch.randn(1, tokens + 1, width) * 0.02)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, c = x.shape[:2]
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(1, keepdim=True), x], dim=1) + self.position
        parts = (f(t).reshape(n, -1, self.heads, c // self.heads).transpose(1, 2) for f, t in self.asked(x))
        y = functional.scaled_dot_product_attention(*parts)
        return self.out(y.transpose(1, 2).reshape(n, c))

    def asked(self, x: Tensor) -> tuple[tuple[nn.Module, Tensor], ...]:
        return (self.q, x[:, :1]), (self.k, x), (self.v, x)


class ResNet(nn.Module):
    def __init__(self, depths: tuple[int, ...], width: int, size: int, dim: int) -> None:
        super().__init__()
        half = width // 2
        layers: list[nn.Module] = [
            *conv(3, half, 3, 2), nn.ReLU(), *conv(half, half, 3), nn.ReLU(), *conv(half, width, 3), nn.ReLU(),
            nn.AvgPool2d(2),
        ]  # fmt: skip
        wide = width
        for stage, depth in enumerate(depths):
            for block in range(depth):
                layers.append(Bottleneck(wide, width << stage, 2 if stage and not block else 1))
                wide = (width << stage) * 4
        self.body = nn.Sequential(*layers)
        self.pool = AttentionPool((size // 32) ** 2, wide, wide // 64, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.body(x))


class Mixer(nn.Module):
    """A depthwise mixer and a convolutional MLP; or self-attention and the MLP."""

    def __init__(self, width: int, attend: bool) -> None:
        super().__init__()
        self.heads = width // 32 if attend else 0
        if attend:
            self.norm = nn.BatchNorm2d(width)
            self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        else:
            self.mix = nn.Conv2d(width, width, 3, 1, 1, groups=width)
        self.local = nn.Sequential(*conv(width, width, 7, groups=width))
        self.wide, self.back = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(3 * width, width, 1)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale * self.attention(x) if self.heads else self.mix(x)
        return x + self.scale * self.back(functional.gelu(self.wide(self.local(x))))

    def attention(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(y).reshape(n, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        return self.out(y).transpose(1, 2).reshape(n, c, h, w)


class Excite(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.less, self.more = nn.Conv2d(width, width // 16, 1), nn.Conv2d(width // 16, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.more(functional.relu(self.less(x.mean((2, 3), keepdim=True)))))


class Hybrid(nn.Module):
    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...], dim: int) -> None:
        super().__init__()
        first = widths[0]
        layers: list[nn.Module] = [
            nn.Conv2d(3, first, 3, 2, 1), nn.GELU(), nn.Conv2d(first, first, 3, 2, 1, groups=first), nn.GELU(),
            nn.Conv2d(first, first, 1), nn.GELU(),
        ]  # fmt: skip
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if stage:
                before = widths[stage - 1]
                layers += [nn.Conv2d(before, width, 7, 2, 3, groups=before), nn.Conv2d(width, width, 1), nn.GELU()]
            layers += [Mixer(width, attend=stage == len(widths) - 1) for _ in range(depth)]
        last = widths[-1]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Conv2d(last, 2 * last, 3, 1, 1, groups=last), Excite(2 * last), nn.GELU())
        self.out = nn.Linear(2 * last, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.head(self.body(x)).mean((2, 3)))


# name -> (tower, picture size)
SHAPES = {
    "nano": lambda: (ConvImageTower(ConvTower(), 256), 96),
    "vit twin of nano": lambda: (ViTImageTower(ViTTower(), 96, 256), 96),
    "vit-b-32": lambda: (ViTImageTower(ViTTower(patch=32, width=768, depth=12, heads=12), 224, 512), 224),
    "resnet-50 with attention pool": lambda: (ResNet((3, 4, 6, 3), 64, 224, 1024), 224),
    "mobileclip2-s0": lambda: (Hybrid((64, 128, 256, 512), (2, 6, 10, 2), 512), 256),
}
