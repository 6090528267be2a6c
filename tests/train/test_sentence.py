"""The sentence encoder against torch's own post-norm transformer layers, with the same random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgeclip.errors import DataError
from edgeclip.train.sentence import SentenceEncoder
from edgeclip.train.vocabulary import encode, train_tokenizer

WIDTH, LAYERS, HEADS, EPSILON = 24, 2, 3, 1e-12
PHRASES = ["a photo of a dog", "cat", "the red delivery van beside a cup"]


def weights(vocabulary: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return 0.3 * torch.randn(*shape, generator=generator)

    made = {
        "embeddings.word_embeddings.weight": normal(vocabulary, WIDTH),
        "embeddings.position_embeddings.weight": normal(64, WIDTH),
        "embeddings.token_type_embeddings.weight": normal(2, WIDTH),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        linears = {f"attention.self.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value")}
        linears |= {
            "attention.output.dense": (WIDTH, WIDTH),
            "intermediate.dense": (4 * WIDTH, WIDTH),
            "output.dense": (WIDTH, 4 * WIDTH),
        }
        for name, shape in linears.items():
            made[f"{at}{name}.weight"], made[f"{at}{name}.bias"] = normal(*shape), normal(shape[0])
        norms += [f"{at}attention.output.LayerNorm", f"{at}output.LayerNorm"]
    for name in norms:
        made[f"{name}.weight"], made[f"{name}.bias"] = 1 + normal(WIDTH), normal(WIDTH)
    return made


def reference(w: dict[str, Tensor], ids: Tensor) -> Tensor:
    """[T] ids of one phrase -> unit vector, by torch.nn.TransformerEncoderLayer."""
    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = x + w["embeddings.token_type_embeddings.weight"][0]
    x = nn.functional.layer_norm(x, (WIDTH,), w["embeddings.LayerNorm.weight"], w["embeddings.LayerNorm.bias"], EPSILON)
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        block = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", EPSILON, batch_first=True).eval()
        qkv = [f"{at}attention.self.{name}" for name in ("query", "key", "value")]
        names = {
            "self_attn.out_proj": "attention.output.dense",
            "linear1": "intermediate.dense",
            "linear2": "output.dense",
            "norm1": "attention.output.LayerNorm",
            "norm2": "output.LayerNorm",
        }
        state = {
            f"{ours}.{kind}": w[f"{at}{bert}.{kind}"] for ours, bert in names.items() for kind in ("weight", "bias")
        }
        for kind in ("weight", "bias"):
            state[f"self_attn.in_proj_{kind}"] = torch.cat([w[f"{name}.{kind}"] for name in qkv])
        block.load_state_dict(state)
        x = block(x[None])[0]
    return nn.functional.normalize(x.mean(0), dim=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path)


def write_model(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    tokenizer = train_tokenizer(PHRASES, 80)
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    config = {
        "model_type": "bert", "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "layer_norm_eps": EPSILON,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights(len(json.loads(tokenizer)["model"]["vocab"])), folder / "model.safetensors")
    return folder


def test_it_is_a_bert_with_mean_pooling(folder: Path) -> None:
    tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
    vectors = SentenceEncoder(folder).encode(PHRASES)
    w = weights(len(json.loads(tokenizer)["model"]["vocab"]))
    for phrase, vector in zip(PHRASES, vectors, strict=True):
        ids = torch.from_numpy(encode(tokenizer, [phrase], 64))[0]
        with torch.no_grad():
            torch.testing.assert_close(vector.clone(), reference(w, ids), atol=1e-4, rtol=1e-4)


def test_a_phrase_is_embedded_alike_in_any_company(folder: Path) -> None:
    encoder = SentenceEncoder(folder)
    together = encoder.encode(PHRASES)
    torch.testing.assert_close(
        together, torch.cat([encoder.encode([phrase]) for phrase in PHRASES]), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    assert encoder.encode(["dog " * 300]).shape == (1, WIDTH)  # longer than the positions there are


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_that_lacks_a_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"holds no {name}"):
        SentenceEncoder(folder)


def test_another_kind_of_model_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(DataError, match="model_type 't5', not bert"):
        SentenceEncoder(folder)
