from __future__ import annotations

import msgspec
import pytest
import torch

from edgeclip.train.towers import ConvTower, DualEncoder, TextTower, Towers, ViTTower

TEXT = TextTower(vocabulary=50, context_length=10, width=16, depth=2, heads=2)
IMAGES = [ConvTower(8, (16, 24), (1, 2), 32), ViTTower(patch=4, width=16, depth=2, heads=2)]


def model(image: ConvTower | ViTTower, size: int = 16) -> DualEncoder:
    torch.manual_seed(0)
    made = DualEncoder(Towers(image, TEXT, size=size, dim=12))
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # the zeros a residual branch begins with would hide it
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return made.eval()


@pytest.mark.parametrize("image", IMAGES, ids=["conv", "vit"])
def test_both_towers_give_unit_vectors_of_the_space(image: ConvTower | ViTTower) -> None:
    dual = model(image)
    pixels, ids = torch.randn(3, 3, 16, 16), torch.randint(1, 50, (5, 7))
    for vectors, count in ((dual.encode_image(pixels), 3), (dual.encode_text(ids), 5)):
        assert vectors.shape == (count, 12)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(count))
    assert not torch.allclose(*dual.encode_image(pixels)[:2])


@pytest.mark.parametrize("image", IMAGES, ids=["conv", "vit"])
def test_a_picture_is_embedded_alike_in_any_company(image: ConvTower | ViTTower) -> None:
    dual, pixels = model(image), torch.randn(4, 3, 16, 16)
    alone = torch.cat([dual.encode_image(one[None]) for one in pixels])
    torch.testing.assert_close(dual.encode_image(pixels), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [16, 17, 24, 30])
def test_the_conv_tower_takes_other_sides(side: int) -> None:
    assert model(IMAGES[0]).image(torch.randn(2, 3, side, side)).shape == (2, 12)  # type: ignore[arg-type]


def test_padding_says_nothing() -> None:
    dual = model(IMAGES[0])  # type: ignore[arg-type]
    ids = torch.tensor([[2, 7, 9, 3]])
    padded = torch.tensor([[2, 7, 9, 3, 0, 0, 0, 0]])
    torch.testing.assert_close(dual.encode_text(padded), dual.encode_text(ids), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(dual.encode_text(torch.tensor([[2, 9, 7, 3]])), dual.encode_text(ids), atol=1e-3)


def test_nothing_but_padding_is_finite() -> None:
    assert torch.isfinite(model(IMAGES[0]).text(torch.zeros(2, 5, dtype=torch.long))).all()  # type: ignore[arg-type]


def test_the_temperature_begins_at_that_of_clip() -> None:
    dual = model(IMAGES[0])  # type: ignore[arg-type]
    assert dual.log_scale.exp().item() == pytest.approx(1 / 0.07, rel=1e-3)
    assert dual.log_scale.requires_grad
    assert dual.bias.requires_grad


@pytest.mark.parametrize("image", IMAGES, ids=["conv", "vit"])
def test_the_description_survives_json(image: ConvTower | ViTTower) -> None:
    towers = Towers(image, TEXT, size=16, dim=12)
    assert msgspec.json.decode(msgspec.json.encode(towers), type=Towers) == towers


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"kind": "conv", "widths": [8, 8], "depths": [1]}', "as many depths"),
        ('{"kind": "vit", "width": 10, "heads": 3}', "heads"),
        ('{"kind": "vit", "patch": 7}', "patch"),
        ('{"kind": "resnet"}', "resnet"),
    ],
)
def test_towers_that_cannot_be_built_are_refused(text: str, fault: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=fault):
        msgspec.json.decode('{"text": {}, "size": 96, "image": ' + text + "}", type=Towers)
    with pytest.raises(msgspec.ValidationError, match="heads"):
        msgspec.json.decode('{"text": {"width": 10, "heads": 4}, "image": {"kind": "conv"}}', type=Towers)
