"""Our tokenizers against the libraries', token for token, over lines in many scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("open_clip", reason="pip install 'edgeclip[models]'")
pytest.importorskip("transformers", reason="pip install 'edgeclip[models]'")

import ftfy
import saved
import wordlist
from ftfy.badness import is_bad

from edgeclip.build.checkpoints import tokenizer_files
from edgeclip.errors import DataError
from edgeclip.runtime.tokenizer import Tokenizer, load_tokenizer
from edgeclip.runtime.tokenizer.fixtext import fix_text

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own
LINES = 2500
Ids = Callable[[str], Sequence[int]]


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return wordlist.lines(LINES)


def loaded(folder: Path, spec: str) -> Tokenizer:
    path = folder / "tokenizer.json"
    path.write_text(spec, encoding="utf-8")
    return load_tokenizer(path)


def simple(cleaning: str) -> tuple[str, Ids]:
    from open_clip.tokenizer import SimpleTokenizer

    library = SimpleTokenizer(clean=cleaning)
    return (
        tokenizer_files.of_openclip(library),
        lambda text: [library.sot_token_id, *library.encode(text), library.eot_token_id],
    )


def wrapped(library: Any, cleaning: str) -> tuple[str, Ids]:
    """A Hugging Face tokenizer as open_clip wraps it."""
    from open_clip.tokenizer import HFTokenizer, get_clean_fn

    wrapper = HFTokenizer.__new__(HFTokenizer)  # its constructor asks a hub
    wrapper.tokenizer, wrapper.tokenizer_mode, wrapper.strip_sep_token = library, "", False
    wrapper.clean_fn = get_clean_fn(cleaning)
    return tokenizer_files.of_openclip(wrapper), lambda text: library(wrapper.clean_fn(text)).input_ids


def own(library: Any) -> tuple[str, Ids]:
    return tokenizer_files.dumped(tokenizer_files.of_huggingface(library)), lambda text: library(text).input_ids


KINDS: dict[str, Callable[[Path], tuple[str, Ids]]] = {
    "clip": lambda _: simple("lower"),
    "clip, case kept": lambda _: simple("whitespace"),
    "clipa": lambda _: simple("canonicalize"),
    "huggingface clip": lambda _: own(saved.clip_tokenizer()),
    "siglip": lambda folder: own(saved.siglip_tokenizer(folder)),
    "siglip2": lambda _: own(saved.gemma_tokenizer()),
    "t5": lambda _: own(saved.t5_tokenizer(300)),
    "open_clip siglip": lambda _: wrapped(saved.t5_tokenizer(300), "canonicalize"),
    "open_clip siglip2": lambda _: wrapped(saved.gemma_tokenizer(), "canonicalize"),
}
MENDS = ("clip", "clip, case kept", "clipa", "open_clip siglip", "open_clip siglip2")


def seems_mojibake(text: str) -> bool:
    """The documented exception: what ftfy takes for text decoded with the wrong character set."""
    return is_bad(text) or is_bad(ftfy.fix_text(text, fix_encoding=False))


@pytest.mark.parametrize("kind", KINDS)
def test_equal_token_for_token(kind: str, lines: list[str], tmp_path: Path) -> None:
    spec, ids = KINDS[kind](tmp_path)
    ours = loaded(tmp_path, spec)
    different = [line for line in lines if ours.encode(line) != list(ids(line))]
    if kind in MENDS:
        different = [line for line in different if not seems_mojibake(line)]
    assert not different, ascii(different[:3])


def test_batches_are_cut_and_padded_as_the_libraries_do(tmp_path: Path) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    texts = ["a dog", "", "a photo of a dog " * 40, "<end_of_text> a dog <start_of_text>"]
    library = SimpleTokenizer()
    ours = loaded(tmp_path, tokenizer_files.of_openclip(library))
    assert ours.encode_batch(texts, 77, 0).tolist() == library(texts).tolist()
    for side in ("left", "right"):
        gemma = saved.gemma_tokenizer()
        gemma.padding_side = side
        ours = loaded(tmp_path, tokenizer_files.dumped(tokenizer_files.of_huggingface(gemma)))
        want = gemma(texts, padding="max_length", truncation=True, max_length=16).input_ids
        assert ours.encode_batch(texts, 16, gemma.pad_token_id).tolist() == want


def test_text_is_mended_as_ftfy_does(lines: list[str]) -> None:
    awkward = [
        "ﬁne ĳsje ŉ ǆ ﬅ", "ＬＯＵＤ　ＮＯＩＳＥＳ ｶﾅ", "“quoted” ‘single’ ‚low’ „low“ ʼn", "a\r\nb\rc\u2028d\x85e",
        "\x1b[36;44mblue\x1b[0m", "a\x00b\x7fc\ufeffd\ufff9e", "P&EACUTE;REZ &lt;b&gt; &amp;amp; &#233; &#xe9; &bogus;",
        "<b>&amp;</b> &amp;", "x &amp; y\n<b> &amp;\n&amp;", "e\u0301 \u1100\u1161", "\ud83d\ude00 \ud83d alone",
        "\x93quoted\x94 \x80",
    ]  # fmt: skip
    for text in (*awkward, *lines):
        if not seems_mojibake(text):
            assert fix_text(text) == ftfy.fix_text(text), ascii(text)


def test_what_cannot_be_carried_over_is_refused() -> None:
    with pytest.raises(DataError, match="Unheard is not a tokenizer"):
        tokenizer_files.of_openclip(type("Unheard", (), {})())
