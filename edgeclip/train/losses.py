"""The losses, over unit vectors. All return scalars; every one has its paper."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def contrastive(image: Tensor, text: Tensor, scale: Tensor, same: Tensor) -> Tensor:
    """Symmetric cross-entropy over the similarity matrix (Radford et al., 2021, CLIP).

    image, text: [B, D] unit vectors of pairs. same: [B, B] bool, True where the texts mean the same thing:
    equal labels are positives, not negatives (Khosla et al., 2020, the form with the sum outside the log).
    """
    logits = scale * image @ text.T
    target = same.to(logits.dtype)
    rows = functional.cross_entropy(logits, target / target.sum(1, keepdim=True))
    columns = functional.cross_entropy(logits.T, target.T / target.T.sum(1, keepdim=True))
    return (rows + columns) / 2


def sigmoid(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, same: Tensor) -> Tensor:
    """Pairwise sigmoid loss (Zhai et al., 2023, SigLIP). Shapes as in `contrastive`."""
    logits = scale * image @ text.T + bias
    sign = 2.0 * same.to(logits.dtype) - 1.0
    return -functional.logsigmoid(sign * logits).sum(1).mean()


def against_bank(image: Tensor, bank: Tensor, scale: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each image against a fixed bank of texts (half of `contrastive`, every text a negative).

    image: [B, D]; bank: [L, D]; target: [B, L] rows summing to 1.
    """
    return functional.cross_entropy(scale * image @ bank.T, target)


def distil_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine to the teacher's embedding in the same space. Both [B, D] unit vectors."""
    return 1.0 - (student * teacher).sum(1).mean()


def distil_soft(image: Tensor, teacher: Tensor, bank: Tensor, scale: Tensor, teacher_scale: float) -> Tensor:
    """KL from the teacher's distribution over the bank to the student's (Hinton et al., 2015)."""
    return distil_answers(image, torch.softmax(teacher_scale * teacher @ bank.T, dim=1), bank, scale)


def distil_answers(image: Tensor, wanted: Tensor, bank: Tensor, scale: Tensor) -> Tensor:
    """KL from the distribution `wanted` [B, L] over the bank [L, D] to the student's over it; image [B, D]."""
    given = torch.log_softmax(scale * image @ bank.T, dim=1)
    return functional.kl_div(given, wanted, reduction="batchmean")
