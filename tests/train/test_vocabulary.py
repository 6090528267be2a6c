"""The tokenizer trained here, as the runtime reads it: token for token the same."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeclip.runtime.tokenizer import Tokenizer, load_tokenizer
from edgeclip.train.vocabulary import encode, train_tokenizer

PHRASES = ["a photo of a dog", "a close-up photo of a red cup", "delivery van", "espresso maker", "dogs", "café"]
UNSEEN = [
    "A Photo of a DOG!",
    "photographer's cup-holder, vans & espressos",
    "naïve café ÄÖÜ ß",
    "zebra 42 ½ ﬁne",
    "狗 и собака",
    "",
    "   ",
    "\u200b\ufeff tabs\tand\nlines",
    "don't... [CLS] <unk>",
    "x" * 120,
    "a photo of a very very very very long thing that does not fit",
]
CONTEXT = 12


@pytest.fixture(scope="module")
def trained() -> str:
    return train_tokenizer(PHRASES, 90)


@pytest.fixture(scope="module")
def runtime(trained: str, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.json"
    path.write_text(trained, encoding="utf-8")
    return load_tokenizer(path)


def padded(ids: np.ndarray, context: int) -> np.ndarray:
    return np.pad(ids, ((0, 0), (0, context - ids.shape[1])))


def test_the_runtime_reads_the_same_ids(trained: str, runtime: Tokenizer) -> None:
    for phrases in (PHRASES, UNSEEN):
        ours = encode(trained, phrases, CONTEXT)
        np.testing.assert_array_equal(padded(ours, CONTEXT), runtime.encode_batch(phrases, CONTEXT, 0))


def test_phrases_of_the_training_set_are_known(trained: str) -> None:
    vocabulary = json.loads(trained)["model"]["vocab"]
    ids = encode(trained, PHRASES, CONTEXT)
    assert (ids != vocabulary["[UNK]"]).all()
    assert (ids[:, 0] == vocabulary["[CLS]"]).all()
    assert vocabulary["[PAD]"] == 0
    assert len(vocabulary) <= 90


def test_rows_are_as_wide_as_the_longest_and_end_with_the_end_mark(trained: str) -> None:
    end = json.loads(trained)["model"]["vocab"]["[SEP]"]
    ids = encode(trained, ["dog", "a photo of a dog"], CONTEXT)
    assert ids.shape == (2, 7)
    assert ids[0].tolist()[3:] == [0, 0, 0, 0]
    assert ids[0, 2] == ids[1, 6] == end
    cut = encode(trained, ["a photo of a dog " * 5], CONTEXT)
    assert cut.shape == (1, CONTEXT)
    assert cut[0, -1] == end
    assert encode(trained, [], CONTEXT).shape == (0, 1)


def test_it_does_not_depend_on_the_order_of_the_phrases(trained: str) -> None:
    assert train_tokenizer(reversed(PHRASES), 90) == trained
    assert train_tokenizer(set(PHRASES), 90) == trained
