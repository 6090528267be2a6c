"""The losses against their definitions, written out with loops and math.exp."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeclip.train import losses

E0, E1 = [1.0, 0.0], [0.0, 1.0]


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values)


def unit(count: int, dim: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, dim, generator=generator, dtype=torch.float64), dim=1)


def log_softmax(logits: list[float]) -> list[float]:
    total = math.log(sum(math.exp(value) for value in logits))
    return [value - total for value in logits]


def half(image: Tensor, text: Tensor, scale: float, same: Tensor) -> float:
    """Cross-entropy of each row against the mean over its positives."""
    total = 0.0
    for i in range(len(image)):
        given = log_softmax([scale * float(image[i] @ text[j]) for j in range(len(text))])
        positives = [j for j in range(len(text)) if same[i, j]]
        total -= sum(given[j] for j in positives) / len(positives)
    return total / len(image)


def test_contrastive_of_two_matching_pairs_by_hand() -> None:
    """Each row's softmax is (e, 1): the loss is log(1 + 1/e)."""
    image = rows(E0, E1)
    loss = losses.contrastive(image, image, torch.tensor(1.0), torch.eye(2, dtype=torch.bool))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)


def test_contrastive_of_two_swapped_pairs_by_hand() -> None:
    loss = losses.contrastive(rows(E0, E1), rows(E1, E0), torch.tensor(2.0), torch.eye(2, dtype=torch.bool))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(2)), abs=1e-6)


def test_contrastive_is_the_mean_of_both_directions() -> None:
    image, text = unit(5, 4, 0), unit(5, 4, 1)
    same = torch.eye(5, dtype=torch.bool)
    loss = losses.contrastive(image, text, torch.tensor(7.0, dtype=torch.float64), same)
    there, back = half(image, text, 7.0, same), half(text, image, 7.0, same.T)
    assert abs(there - back) > 0.01  # or the test could not tell one direction from both
    assert loss.item() == pytest.approx((there + back) / 2, rel=1e-9)


def test_contrastive_shares_the_target_among_equal_texts() -> None:
    image, text = unit(6, 4, 2), unit(6, 4, 3)
    classes = torch.tensor([0, 1, 0, 2, 0, 1])
    same = classes[:, None] == classes[None]
    loss = losses.contrastive(image, text, torch.tensor(5.0, dtype=torch.float64), same)
    assert loss.item() == pytest.approx((half(image, text, 5, same) + half(text, image, 5, same)) / 2, rel=1e-9)


def test_duplicates_are_no_negatives() -> None:
    """Two pairs of one class, all alike: nothing is left to tell apart but the two of them."""
    alike = rows(E0, E0)
    together = losses.contrastive(alike, alike, torch.tensor(100.0), torch.ones(2, 2, dtype=torch.bool))
    assert together.item() == pytest.approx(math.log(2), abs=1e-6)
    image = rows(E0, E0).requires_grad_()
    losses.contrastive(image, alike, torch.tensor(100.0), torch.ones(2, 2, dtype=torch.bool)).backward()
    assert image.grad is not None
    assert image.grad.abs().max() < 1e-5


def test_sigmoid_by_hand() -> None:
    """Positives on the diagonal at scale + bias, negatives at bias; summed over texts, averaged over images."""
    image = rows(E0, E1)
    loss = losses.sigmoid(image, image, torch.tensor(3.0), torch.tensor(-1.0), torch.eye(2, dtype=torch.bool))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1)), abs=1e-6)


def test_sigmoid_over_all_pairs() -> None:
    image, text = unit(5, 4, 4), unit(5, 4, 5)
    classes = torch.tensor([0, 1, 0, 2, 1])
    same = classes[:, None] == classes[None]
    wanted = 0.0
    for i in range(5):
        for j in range(5):
            sign = 1.0 if same[i, j] else -1.0
            wanted += math.log(1 + math.exp(-sign * (6.0 * float(image[i] @ text[j]) - 2.0)))
    scale, bias = torch.tensor(6.0, dtype=torch.float64), torch.tensor(-2.0, dtype=torch.float64)
    assert losses.sigmoid(image, text, scale, bias, same).item() == pytest.approx(wanted / 5, rel=1e-9)


def test_against_bank_is_the_images_half() -> None:
    image, bank = unit(4, 5, 6), unit(7, 5, 7)
    same = torch.zeros(4, 7, dtype=torch.bool)
    same[range(4), [2, 0, 6, 2]] = True
    loss = losses.against_bank(image, bank, torch.tensor(9.0, dtype=torch.float64), same.double())
    assert loss.item() == pytest.approx(half(image, bank, 9.0, same), rel=1e-9)


@pytest.mark.parametrize(("teacher", "wanted"), [((E0, E1), 0.0), ((E1, E0), 1.0), (([-1.0, 0.0], E1), 1.0)])
def test_distil_cosine_is_one_minus_the_mean_cosine(teacher: tuple[list[float], list[float]], wanted: float) -> None:
    assert losses.distil_cosine(rows(E0, E1), rows(*teacher)).item() == pytest.approx(wanted)


def test_distil_soft_is_the_divergence_from_the_teacher() -> None:
    image, teacher, bank = unit(4, 5, 8), unit(4, 5, 9), unit(6, 5, 10)
    wanted = 0.0
    for i in range(4):
        given = log_softmax([8.0 * float(image[i] @ row) for row in bank])
        target = log_softmax([20.0 * float(teacher[i] @ row) for row in bank])
        wanted += sum(math.exp(t) * (t - g) for t, g in zip(target, given, strict=True))
    loss = losses.distil_soft(image, teacher, bank, torch.tensor(8.0, dtype=torch.float64), 20.0)
    assert loss.item() == pytest.approx(wanted / 4, rel=1e-9)


def test_distil_soft_vanishes_where_the_student_is_the_teacher() -> None:
    image, bank = unit(4, 5, 8), unit(6, 5, 10)
    assert losses.distil_soft(image, image, bank, torch.tensor(8.0), 8.0).item() == pytest.approx(0.0, abs=1e-7)


def test_distil_answers_is_the_divergence_from_what_was_answered() -> None:
    image, bank = unit(4, 5, 11), unit(6, 5, 12)
    answered = torch.softmax(torch.from_numpy(np.random.default_rng(13).normal(size=(4, 6))), dim=1)
    wanted = 0.0
    for i in range(4):
        given = log_softmax([8.0 * float(image[i] @ row) for row in bank])
        wanted += sum(float(t) * (math.log(t) - g) for t, g in zip(answered[i], given, strict=True))
    loss = losses.distil_answers(image, answered, bank, torch.tensor(8.0, dtype=torch.float64))
    assert loss.item() == pytest.approx(wanted / 4, rel=1e-9)
