from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from torch import Tensor
from torch.nn import functional

from edgeclip.train import zeroshot
from edgeclip.train.data import PairSet, centre_square, read_pairs
from edgeclip.train.towers import ConvTower, DualEncoder, TextTower, Towers
from edgeclip.train.zeroshot import accuracy, embed_pictures, label_bank, normalised, retrieval


@pytest.fixture
def pairs(tmp_path: Path) -> PairSet:
    made = toy.pictures(3)
    texts = [[f"{label} thing", label] for label, _ in made]
    return read_pairs([str(toy.write_tar(tmp_path / "dev.tar", made, texts))])


def unit(count: int, dim: int, seed: int) -> Tensor:
    return functional.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_pixels_go_to_minus_one_and_one() -> None:
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 1, 1, 3)
    assert normalised(pixels).flatten().tolist() == pytest.approx([-1.0, 1.0, -0.6])
    assert normalised(torch.zeros(2, 5, 7, 3, dtype=torch.uint8)).shape == (2, 3, 5, 7)


def test_pictures_are_embedded_one_by_one_or_many_at_a_time(pairs: PairSet, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = DualEncoder(Towers(ConvTower(8, (16, 24), (1, 1), 32), TextTower(64, 8, 16, 1, 2), 16, 8)).eval()
    whole = embed_pictures(model, pairs, 16)
    monkeypatch.setattr(zeroshot, "EMBED_BATCH", 5)
    torch.testing.assert_close(embed_pictures(model, pairs, 16), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(len(pairs)))
    last = torch.from_numpy(np.ascontiguousarray(centre_square(pairs.picture(len(pairs) - 1), 16)))[None]
    torch.testing.assert_close(whole[-1:], model.encode_image(normalised(last)).detach(), rtol=1e-4, atol=1e-5)


def test_a_label_is_its_mean_over_the_templates_on_the_sphere() -> None:
    said: list[str] = []

    def encode(phrases: list[str]) -> Tensor:
        said.extend(phrases)
        return unit(len(phrases), 6, 1)

    bank = label_bank(["cat", "dog"], ("a {}", "{}", "the {}"), encode)
    assert said == ["a cat", "cat", "the cat", "a dog", "dog", "the dog"]
    rows = unit(6, 6, 1)
    torch.testing.assert_close(bank, functional.normalize(torch.stack([rows[:3].mean(0), rows[3:].mean(0)]), dim=1))


def test_accuracy_counts_what_a_loop_counts(pairs: PairSet) -> None:
    labels = ["Blue", "red", "green", "grey", "mauve", "ochre", "teal"]  # three colours have no label
    images, bank = unit(len(pairs), 6, 2), unit(len(labels), 6, 3)
    first = fifth = count = 0
    for index in range(len(pairs)):
        name = pairs.classes[pairs.class_ids[index]]
        if name not in ("blue", "red", "green"):
            continue
        order = sorted(range(len(labels)), key=lambda at: -float(images[index] @ bank[at]))
        wanted = [label.lower() for label in labels].index(name)
        first, fifth, count = first + (order[0] == wanted), fifth + (wanted in order[:5]), count + 1
    figures = accuracy(images, bank, pairs, labels)
    assert figures["n"] == count == 9
    assert figures["top1"] == pytest.approx(first / count)
    assert figures["top5"] == pytest.approx(fifth / count)
    assert 0 < fifth < count


def test_accuracy_of_perfect_and_of_wrong_towers(pairs: PairSet) -> None:
    bank = torch.eye(6)
    right = bank[pairs.class_ids]
    assert accuracy(right, bank, pairs, pairs.classes) == {"top1": 1.0, "top5": 1.0, "n": 18.0}
    assert accuracy(-right, bank, pairs, pairs.classes)["top1"] == 0.0
    assert accuracy(right, bank[:2], pairs, pairs.classes[:2])["n"] == 6.0


def test_retrieval_looks_for_the_first_text_among_the_distinct_ones(pairs: PairSet) -> None:
    texts = sorted({texts[0] for texts in pairs.texts})
    vectors = dict(zip(texts, torch.eye(6), strict=True))

    def encode(phrases: list[str]) -> Tensor:
        return torch.stack([vectors[phrase] for phrase in phrases])

    images = encode([texts[0] for texts in pairs.texts])
    assert retrieval(images, pairs, encode) == {"r1": 1.0, "r5": 1.0}
    images[:9] = -images[:9]  # half of the pictures are farthest from their own text
    assert retrieval(images, pairs, encode) == {"r1": 0.5, "r5": 0.5}
