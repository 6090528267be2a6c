"""The tokenizer.json of a checkpoint, written from the tokenizer that its library uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeclip.errors import DataError

SPIECE = "\u2581"
VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
CLEANING: dict[str, list[dict[str, Any]]] = {  # open_clip's names for what it does to a text first
    "lower": [{"type": "CleanText"}, {"type": "CollapseSpace"}, {"type": "LowercaseText"}],
    "whitespace": [{"type": "CleanText"}, {"type": "CollapseSpace"}],
    "canonicalize": [{"type": "CleanText"}, {"type": "Canonicalize", "underscores": True}],
}


def require(directory: Path, hint: str) -> None:
    """Raises DataError for a directory without a vocabulary: of such a one transformers makes a tokenizer that knows no
    word, and says nothing."""
    if not any((directory / name).is_file() for name in VOCABULARIES):
        raise DataError(f"{directory} holds no vocabulary: none of {', '.join(VOCABULARIES)}", hint)


def of_openclip(tokenizer: Any) -> str:
    """Of open_clip's SimpleTokenizer, or its wrapper around a Hugging Face tokenizer. Raises DataError for others."""
    import open_clip.tokenizer as library

    if isinstance(tokenizer, library.SimpleTokenizer):
        return of_simple(tokenizer, cleaning_of(tokenizer))
    if isinstance(tokenizer, library.HFTokenizer):
        if tokenizer.tokenizer_mode or tokenizer.strip_sep_token:
            raise DataError("open_clip's CLIPS and separator-stripping tokenizer modes are not known", "")
        steps = CLEANING[cleaning_of(tokenizer)]
        return dumped({**of_huggingface(tokenizer.tokenizer), "clean": {"type": "Sequence", "normalizers": steps}})
    raise DataError(f"open_clip's {type(tokenizer).__name__} is not a tokenizer edgeclip can carry over", "")


def cleaning_of(tokenizer: Any) -> str:
    """open_clip keeps the function, not its name."""
    import open_clip.tokenizer as library

    return next(name for name in CLEANING if library.get_clean_fn(name) is tokenizer.clean_fn)


def of_simple(tokenizer: Any, cleaning: str) -> str:
    """CLIP's own byte-level BPE."""
    merges = [list(pair) for pair, _ in sorted(tokenizer.bpe_ranks.items(), key=lambda item: item[1])]
    special = [token for token, number in tokenizer.encoder.items() if number in tokenizer.all_special_ids]
    start, end = tokenizer.sot_token_id, tokenizer.eot_token_id
    return dumped(
        {
            "version": "1.0",
            "normalizer": {"type": "Sequence", "normalizers": CLEANING[cleaning]},
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "ClipWords", "special": special},
                    {"type": "ByteLevel", "add_prefix_space": False},
                ],
            },
            "model": {
                "type": "BPE",
                "vocab": dict(tokenizer.encoder),
                "merges": merges,
                "end_of_word_suffix": "</w>",
                "whole": special,
            },
            "post_processor": {
                "type": "RobertaProcessing",
                "cls": [special[0], start],
                "sep": [special[1], end],
            },
        }
    )


def of_huggingface(tokenizer: Any) -> dict[str, Any]:
    """Of a transformers tokenizer, as the library itself would save it; of SigLIP's slow one from its spiece.model."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return of_sentencepiece(tokenizer)
    spec: dict[str, Any] = json.loads(backend.to_str())
    spec["decoder"] = None
    spec["truncation"] = None
    spec["padding"] = {"direction": tokenizer.padding_side.capitalize()}
    return spec


def of_sentencepiece(tokenizer: Any) -> dict[str, Any]:
    """SigLIP's tokenizer: canonical text, a unigram model, the end token."""
    from base64 import b64encode

    from sentencepiece import sentencepiece_model_pb2
    from transformers import SiglipTokenizer

    if not isinstance(tokenizer, SiglipTokenizer):
        raise DataError(
            f"{type(tokenizer).__name__} has no tokenizer.json",
            "save it with transformers' fast tokenizer, and give that",
        )
    schema: Any = sentencepiece_model_pb2  # generated: its names are made when it is imported
    proto = schema.ModelProto()
    proto.ParseFromString(Path(str(tokenizer.vocab_file)).read_bytes())
    if proto.trainer_spec.model_type != schema.TrainerSpec.UNIGRAM:
        raise DataError(f"{tokenizer.vocab_file} is not a unigram model", "give a directory with a tokenizer.json")
    # The library marks the start itself, before it makes the text canonical; SentencePiece then sees to white space.
    steps: list[dict[str, Any]] = [
        {"type": "MarkStart", "sign": SPIECE},
        *([{"type": "LowercaseText"}] if tokenizer.do_lower_case else []),
        {"type": "Canonicalize", "underscores": False, "lowercase": False},
    ]
    charsmap = proto.normalizer_spec.precompiled_charsmap
    if charsmap:
        steps.append({"type": "Precompiled", "precompiled_charsmap": b64encode(charsmap).decode(), "longest": True})
    steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    steps.append({"type": "Strip", "strip_left": False, "strip_right": True})
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": SPIECE})
    end = int(tokenizer.eos_token_id)
    return {
        "version": "1.0",
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "model": {
            "type": "Unigram",
            "vocab": [[piece.piece, piece.score] for piece in proto.pieces],
            "unk_id": proto.trainer_spec.unk_id,
            "byte_fallback": proto.trainer_spec.byte_fallback,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": str(tokenizer.eos_token)}}],
            "special_tokens": {str(tokenizer.eos_token): {"id": str(tokenizer.eos_token), "ids": [end], "tokens": []}},
        },
    }


def dumped(spec: dict[str, Any]) -> str:
    return json.dumps(spec, ensure_ascii=False, separators=(",", ":"))
