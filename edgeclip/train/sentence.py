"""A BERT sentence encoder (Devlin et al., 2019; mean pooling as sentence-transformers does), from its safetensors file.

Enough of it to be a text teacher; it needs torch, safetensors and tokenizers only.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from edgeclip.errors import DataError

LONGEST = 64  # word pieces


class SentenceEncoder:
    """model: a folder with config.json, model.safetensors and tokenizer.json of a BERT. Raises DataError."""

    def __init__(self, model: Path) -> None:
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if not (model / name).is_file():
                raise DataError(f"{model} holds no {name}", "give the folder of a BERT sentence-transformers model")
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        if config.get("model_type") != "bert":
            raise DataError(f"{model}: model_type {config.get('model_type')!r}, not bert", "give a BERT model")
        self._layers = int(config["num_hidden_layers"])
        self._heads = int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])
        self._weights = {name: tensor.float() for name, tensor in load_file(model / "model.safetensors").items()}
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._tokenizer.enable_truncation(LONGEST)
        self._tokenizer.enable_padding()

    @torch.inference_mode()
    def encode(self, phrases: list[str]) -> Tensor:
        """[len(phrases), F] unit rows."""
        rows = self._tokenizer.encode_batch(phrases)
        ids = torch.tensor([row.ids for row in rows])
        keep = torch.tensor([row.attention_mask for row in rows])[:, :, None].float()
        mask = ((keep - 1.0) * 1e9).transpose(1, 2)[:, None]
        w = self._weights
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(x + w["embeddings.position_embeddings.weight"][: ids.shape[1]], "embeddings.LayerNorm")
        n, t, width = x.shape
        for layer in range(self._layers):
            at = f"encoder.layer.{layer}."
            q, k, v = (
                self._linear(x, f"{at}attention.self.{name}").reshape(n, t, self._heads, -1).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            y = self._linear(y.transpose(1, 2).reshape(n, t, width), f"{at}attention.output.dense")
            x = self._norm(x + y, f"{at}attention.output.LayerNorm")
            y = functional.gelu(self._linear(x, f"{at}intermediate.dense"))
            x = self._norm(x + self._linear(y, f"{at}output.dense"), f"{at}output.LayerNorm")
        return functional.normalize((x * keep).sum(1) / keep.sum(1), dim=1)

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(x, x.shape[-1:], weight, bias, self._epsilon)
