"""The text tower's own tokenizer: lower-cased WordPiece (Schuster and Nakajima, 2012), trained on the run's phrases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

PAD, UNKNOWN, BEGIN, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
SPECIAL = [PAD, UNKNOWN, BEGIN, END]
ALPHABET = 200  # characters kept, the commonest


def train_tokenizer(phrases: Iterable[str], size: int) -> str:
    """Train on `phrases` and return tokenizer.json as text; [PAD] is id 0. Deterministic."""
    phrases = sorted(phrases)
    learner = _empty({})
    counts = Counter(
        character
        for phrase in phrases
        for word, _ in learner.pre_tokenizer.pre_tokenize_str(learner.normalizer.normalize_str(phrase))
        for character in word
    )
    alphabet = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:ALPHABET])
    # The trainer numbers the pieces inside words as its hash table yields them, which differs from run to run.
    # Named among the special tokens they have their places before it starts.
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=SPECIAL + alphabet + [f"##{character}" for character in alphabet],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    learner.train_from_iterator(phrases, trainer)
    tokenizer = _empty(learner.get_vocab())
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}",
        special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN)), (END, tokenizer.token_to_id(END))],
    )
    return str(tokenizer.to_str())


def _empty(vocabulary: dict[str, int]) -> Tokenizer:
    """Without a template yet."""
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def encode(tokenizer_json: str, phrases: list[str], context_length: int) -> npt.NDArray[np.int32]:
    """[len(phrases), T] ids, T the longest needed (at most context_length), padded with 0."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.enable_truncation(context_length)
    rows = [encoding.ids for encoding in tokenizer.encode_batch(phrases)]
    ids = np.zeros((len(rows), max(map(len, rows), default=1)), np.int32)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
    return ids
