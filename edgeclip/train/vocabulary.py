"""The text tower's own tokenizer: lower-cased WordPiece (Schuster and Nakajima, 2012), trained on the run's phrases."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

PAD, UNKNOWN, BEGIN, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"


def train_tokenizer(phrases: Iterable[str], size: int) -> str:
    """Train on `phrases` and return tokenizer.json as text; [PAD] is id 0. Deterministic."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=[PAD, UNKNOWN, BEGIN, END], show_progress=False, limit_alphabet=200
    )
    tokenizer.train_from_iterator(sorted(phrases), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}",
        special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN)), (END, tokenizer.token_to_id(END))],
    )
    return str(tokenizer.to_str())


def encode(tokenizer_json: str, phrases: list[str], context_length: int) -> npt.NDArray[np.int32]:
    """[len(phrases), T] ids, T the longest needed (at most context_length), padded with 0."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.enable_truncation(context_length)
    rows = [encoding.ids for encoding in tokenizer.encode_batch(phrases)]
    ids = np.zeros((len(rows), max(map(len, rows), default=1)), np.int32)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
    return ids
