"""Text engines beside their float form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from small import tokenizer_json

from edgeclip.build.compare import Quantized, measure_texts
from edgeclip.bundle import Text
from edgeclip.runtime.tokenizer import load_tokenizer
from edgeclip.types import Label


class Embedder:
    """Unit vectors that a random table makes of ids, and noise on them."""

    runtime = "a table"
    input_shape, input_dtype = (1, 12), np.dtype(np.int32)

    def __init__(self, noise: float) -> None:
        random = np.random.default_rng(0)
        table = random.normal(size=(128, 16))
        self.table = (table + noise * random.normal(size=table.shape)).astype(np.float32)

    def run(self, batch: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        rows = self.table[batch].sum(1)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    def close(self) -> None: ...


def test_a_single_prompt_does_not_make_a_good_engine_look_broken(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(tokenizer_json())
    floats = {"onnx": Quantized(Embedder(0.0), "float32", 1)}
    for noise, least, most in ((0.01, 0.99, 1.0), (3.0, -1.0, 0.6)):
        int8 = {"text.onnx": Quantized(Embedder(noise), "int8 weights", 1)}
        measured, _ = measure_texts(
            floats, int8, load_tokenizer(tmp_path / "tokenizer.json"), Text("tokenizer.json", 12, 0, ("{}",)),
            [Label("dog")],
        )  # fmt: skip
        assert least <= measured[0].distance.centred.mean <= most
