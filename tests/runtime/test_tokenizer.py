"""Ours against the `tokenizers` library, token for token."""

import json
import unicodedata

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing, TemplateProcessing
from tokenizers.trainers import WordPieceTrainer

from edgeclip.errors import DataError
from edgeclip.runtime.tokenizer import load_tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CORPUS = """
a photo of a dog, a cat and two zebras beside the weather-beaten cardboard box / carton (aubergines, eggplants)
the quick brown fox can't jump over 1,234.5 lazy dogs: "really?" no! e-mail me@example.org #1 50% C++
Ein Mädchen trägt Äpfel über die Straße; Größe, Maß und Fußgängerübergänge in München
Le garçon a mangé une crêpe à l'été près du château; l'œuvre naïve, où est-ce?
El niño pequeño comió piñas y lingüística en el jardín. ¿Dónde está? ¡Aquí!
Žluťoučký kůň pěl ďábelské ódy; zażółć gęślą jaźń; árvíztűrő tükörfúrógép; İstanbul'da ılık ığdır
Собака и кошка сидят на зелёной траве, ещё один ёж под дубом
Ο σκύλος και η γάτα κάθονται στο πράσινο γρασίδι, ΟΔΥΣΣΕΥΣ
一只狗坐在草地上。犬が草の上に座っています。カメラの写真、ガラス。 개가 잔디에 앉아 있다
कुत्ता घास पर बैठा है। هناك كلب يجلس على العشب، قُرْآن שָׁלוֹם כלב יושב על הדשא สุนัขนั่งอยู่บนหญ้า con chó ngồi trên bãi cỏ
😀 👩‍👩‍👧 🇩🇪 ★ → ½ ﬁne Ⅷ ™ ﷺ ① 𝔘𝔫𝔦𝔠𝔬𝔡𝔢
"""


def train(lowercase=True, strip_accents=None, chinese=True, clean=True, post="template"):
    library = tokenizers.Tokenizer(WordPiece(unk_token="[UNK]", max_input_chars_per_word=30))
    library.normalizer = BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=chinese, clean_text=clean
    )
    library.pre_tokenizer = BertPreTokenizer()
    library.train_from_iterator(
        CORPUS.splitlines(), WordPieceTrainer(vocab_size=700, special_tokens=SPECIAL, show_progress=False)
    )
    if post == "template":
        library.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    else:
        library.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return library


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return both(train(), tmp_path_factory.mktemp("tokenizer"))


def both(library, folder):
    path = folder / "tokenizer.json"
    library.save(str(path))
    return load_tokenizer(path), library


def assert_equal(pair, text):
    ours, library = pair
    assert ours.encode(text) == library.encode(text).ids, ascii(text)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lowercase": False},
        {"lowercase": False, "strip_accents": True},
        {"strip_accents": False},
        {"chinese": False},
        {"clean": False},
        {"post": "bert"},
    ],
    ids=str,
)
def test_equals_the_library_on_many_languages(tmp_path, options):
    pair = both(train(**options), tmp_path)
    for line in CORPUS.splitlines():
        assert_equal(pair, line)
        for word in line.split():
            for form in (word, word.upper(), word.title(), word + word[::-1], f"{word}\t{word}\u3000.", word * 9):
                assert_equal(pair, form)


def known_to_this_python(text):
    """Letters newer than Python's Unicode tables are the documented exception."""
    return all(unicodedata.category(character) != "Cn" for character in text)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.one_of(st.text(max_size=12), st.sampled_from(CORPUS.split()), st.sampled_from(SPECIAL)), max_size=6
    ).map(" ".join)
)
def test_equals_the_library_on_any_text(pair, text):
    if known_to_this_python(text):
        assert_equal(pair, text)


@settings(max_examples=400, deadline=None)
@given(
    st.text(st.sampled_from("[]CLSEPdog ' \u0301Iİıßς\u0344́犬\u1734\u2028\x1c\x85\u200d\ufffd\U000111c9"), max_size=20)
)
def test_equals_the_library_on_awkward_text(pair, text):
    assert_equal(pair, text)


def test_equals_the_library_on_every_character_of_the_first_planes(pair):
    ours, library = pair
    for start in range(0x20, 0x20000, 64):
        text = "".join(
            f" a{chr(code)}b{chr(code)}"
            for code in range(start, start + 64)
            if not 0xD800 <= code < 0xE000 and known_to_this_python(chr(code))
        )
        assert ours.encode(text) == library.encode(text).ids, hex(start)


def test_batches_are_cut_before_the_last_special_token_and_padded(pair):
    ours, library = pair
    texts = ["a dog", "", " ".join(["dog"] * 40)]
    batch = ours.encode_batch(texts, 12, 0)
    assert batch.shape == (3, 12)
    assert batch.dtype == np.int32
    library.enable_truncation(12)
    library.enable_padding(length=12)
    try:
        assert batch.tolist() == [encoding.ids for encoding in library.encode_batch(texts)]
    finally:
        library.no_truncation()
        library.no_padding()
    assert batch[2, -1] == 3
    assert ours.encode_batch(["a"], 8, 77)[0, -1] == 77
    assert ours.encode_batch([], 8, 0).shape == (0, 8)
    with pytest.raises(DataError, match="no room"):
        ours.encode_batch(["a"], 2, 0)


@pytest.fixture(scope="module")
def written(pair):
    """The file as sentence encoders have it, with a length of its own."""
    library = tokenizers.Tokenizer.from_str(pair[1].to_str())
    library.enable_truncation(128)
    library.enable_padding(length=128)
    return library.to_str()


def load(tmp_path, spec):
    path = tmp_path / "tokenizer.json"
    path.write_text(spec if isinstance(spec, str) else json.dumps(spec))
    return load_tokenizer(path)


def test_the_files_own_lengths_give_way_to_the_callers(tmp_path, pair, written):
    text = "dog " * 200
    assert load(tmp_path, written).encode(text) == pair[0].encode(text)
    assert load(tmp_path, written).encode_batch(["a"], 16, 0).shape == (1, 16)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d["model"].update(type="WordLevel"), "WordLevel"),
        (lambda d: d["model"].update(dropout=0.1), "dropout"),
        (lambda d: d["model"].update(unk_token="<unk>"), "<unk>"),
        (lambda d: d["model"]["vocab"].update(dog=-1), "vocab"),
        (lambda d: d["model"]["vocab"].update(dog="7"), "vocab"),
        (lambda d: d.update(normalizer={"type": "Nmt"}), "Nmt"),
        (lambda d: d.update(pre_tokenizer={"type": "ByteLevel"}), "ByteLevel"),
        (lambda d: d.update(post_processor={"type": "ByteLevel"}), "ByteLevel"),
        (lambda d: d["post_processor"]["single"].pop(1), "sequence A once"),
        (lambda d: d["post_processor"]["special_tokens"].pop("[SEP]"), "declared special tokens"),
        (lambda d: d["added_tokens"][0].update(single_word=True), "added_tokens"),
        (lambda d: d["truncation"].update(direction="Left"), "truncation"),
        (lambda d: d["padding"].update(direction="Up"), "padding"),
        (lambda d: d.update(version="2.0"), "version"),
        (lambda d: d.update(surprise={}), "surprise"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, written, change, named):
    spec = json.loads(written)
    change(spec)
    with pytest.raises(DataError, match=r"tokenizer\.json") as caught:
        load(tmp_path, spec)
    assert named in caught.value.message
    assert "WordPiece" in caught.value.hint


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"model": {"type": "WordPiece", "vocab": {', "[" * 100_000])
def test_what_is_no_tokenizer_is_refused(tmp_path, text):
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        load(tmp_path, text)


def test_what_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "latin.json").write_bytes(b'{"version": "\xff"}')
    for name in ("absent.json", "", "latin.json"):
        with pytest.raises(DataError):
            load_tokenizer(tmp_path / name)


def test_a_text_without_a_piece_of_the_vocabulary_is_not_known(pair):
    tokenizer, _ = pair
    assert tokenizer.knows("a dog")
    assert tokenizer.knows("🫎 dog")
    for text in ("🫎", "🫎 🪿", "", " "):
        assert not tokenizer.knows(text)
