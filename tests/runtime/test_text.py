"""Text banks and the cache under them, with a made-up encoder and the real cache on a real disk."""

import multiprocessing
import os
import sqlite3
import stat
import time

import numpy as np
import pytest

from edgeclip.bundle import (
    Bundle,
    Calibration,
    EngineEntry,
    Manifest,
    Preprocess,
    Scoring,
    Target,
    Text,
    write_digests,
)
from edgeclip.errors import DataError, EngineError
from edgeclip.runtime import text_cache
from edgeclip.runtime.text import TextEncoder, embed_labels, label_prompts
from edgeclip.runtime.text_cache import default_cache_dir
from edgeclip.types import Label

DIM = 32
CONTEXT = 24
TEMPLATES = ("a photo of a {}.", "{}")
FACTS = Text(tokenizer="tokenizer.json", context_length=CONTEXT, pad_id=0, templates=TEMPLATES)
LABELS = [Label("dog"), Label("cat", ("a cat", "a kitten", "felis")), Label("{braces}")]


class Letters:
    """One id per character."""

    def encode(self, text):
        return [ord(character) for character in text]

    def knows(self, text):
        return text.isascii()

    def encode_batch(self, texts, context_length, pad_id):
        rows = [(self.encode(text)[:context_length] + [pad_id] * context_length)[:context_length] for text in texts]
        return np.array(rows, np.int32)


def vector_of(ids):
    """A unit vector that depends on the ids alone."""
    vector = np.random.default_rng(list(ids)).normal(size=DIM)
    return vector / np.linalg.norm(vector)


class Engine:
    """Returns a view into its own buffer, as real ones may, and three times the length it should have."""

    runtime = "made up"
    input_dtype = np.dtype(np.int32)

    def __init__(self, batch=1):
        self.input_shape = (batch, CONTEXT)
        self.prompts = 0
        self.closed = False
        self._out = np.empty((batch, DIM), np.float32)

    def run(self, batch):
        assert batch.shape == self.input_shape
        assert batch.dtype == np.int32
        self.prompts += len(batch)
        self._out[:] = [3 * vector_of(row) for row in batch]
        return self._out

    def close(self):
        self.closed = True


class Encoders:
    """Opens encoders, and remembers each engine."""

    def __init__(self, batch=1):
        self.batch = batch
        self.engines = []

    def __call__(self):
        self.engines.append(Engine(self.batch))
        return TextEncoder(self.engines[-1], Letters(), FACTS)


def never():
    raise AssertionError("the text engine was loaded")


def make_bundle(path, space="a", engine=b"engine", tokenizer=b"tokenizer"):
    path.mkdir(exist_ok=True)
    (path / "text.tflite").write_bytes(engine)
    (path / "tokenizer.json").write_bytes(tokenizer)
    write_digests(path)
    digest = "sha256:" + space * 64
    manifest = Manifest(
        schema=1,
        name="tiny",
        created="2026-01-01T00:00:00Z",
        space=digest,
        dim=DIM,
        scoring=Scoring(kind="softmax", scale=100.0),
        preprocess=Preprocess((8, 8), "shortest", "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        text=FACTS,
        engines=(EngineEntry("text", "text.tflite", "tflite", "float32", Target("litert")),),
        golden="golden.npz",
        checkpoint=digest,
        calibration=Calibration(digest, 64),
        recipe={},
    )
    return Bundle(path, str(path), manifest)


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def database_of(cache):
    (path,) = (cache / "text").glob("*.sqlite")
    return path


def mean_of(*prompts):
    mean = np.mean([vector_of(Letters().encode_batch([prompt], CONTEXT, 0)[0]) for prompt in prompts], axis=0)
    return mean / np.linalg.norm(mean)


def test_a_label_is_the_mean_direction_of_its_prompts(bundle, cache):
    bank = embed_labels(bundle, LABELS, encoder=Encoders(), cache_dir=cache)
    assert bank.names == ("dog", "cat", "{braces}")
    assert bank.space == bundle.manifest.space
    assert bank.embeddings.dtype == np.float32
    expected = [
        mean_of("a photo of a dog.", "dog"),
        mean_of("a cat", "a kitten", "felis"),
        mean_of("a photo of a {braces}.", "{braces}"),
    ]
    np.testing.assert_allclose(bank.embeddings, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(bank.embeddings, axis=1), 1, atol=1e-6)


def test_own_prompts_are_taken_as_they_are():
    assert label_prompts(Label("x", ("a {}",)), TEMPLATES) == ("a {}",)


@pytest.mark.parametrize("batch", [1, 4])
def test_engines_of_any_batch_size_give_the_same(bundle, tmp_path, batch):
    labels = [Label(f"thing {i}") for i in range(11)]
    one = embed_labels(bundle, labels, encoder=Encoders(), cache_dir=tmp_path / "one")
    some = embed_labels(bundle, labels, encoder=Encoders(batch), cache_dir=tmp_path / "some")
    np.testing.assert_array_equal(one.embeddings, some.embeddings)


def test_with_a_warm_cache_the_text_engine_is_never_loaded(bundle, cache):
    cold = embed_labels(bundle, LABELS, encoder=Encoders(), cache_dir=cache)
    warm = embed_labels(bundle, LABELS[::-1], encoder=never, cache_dir=cache)
    assert warm.names == cold.names[::-1]
    np.testing.assert_array_equal(warm.embeddings, cold.embeddings[::-1])
    assert embed_labels(bundle, [Label("hound", ("a photo of a dog.", "dog"))], encoder=never, cache_dir=cache)


def test_only_what_is_new_is_embedded_once_and_the_engine_released(bundle, cache):
    encoders = Encoders()
    embed_labels(bundle, LABELS, encoder=encoders, cache_dir=cache)
    assert [engine.prompts for engine in encoders.engines] == [7]
    steps = []
    embed_labels(
        bundle,
        [*LABELS, Label("bird"), Label("same bird", ("a photo of a bird.", "bird"))],
        encoder=encoders,
        cache_dir=cache,
        advance=steps.append,
    )
    assert [engine.prompts for engine in encoders.engines] == [7, 2]
    assert all(engine.closed for engine in encoders.engines)
    assert steps == [1]


@pytest.mark.parametrize("change", [{"space": "b"}, {"engine": b"other"}, {"tokenizer": b"other"}])
def test_another_space_engine_or_tokenizer_shares_nothing(tmp_path, bundle, cache, change):
    embed_labels(bundle, LABELS, encoder=Encoders(), cache_dir=cache)
    other = Encoders()
    embed_labels(make_bundle(tmp_path / "other", **change), LABELS, encoder=other, cache_dir=cache)
    assert other.engines[0].prompts == 7
    embed_labels(bundle, LABELS, encoder=never, cache_dir=cache)


def test_an_interrupted_first_run_keeps_what_it_did(bundle, cache):
    labels = [Label(f"thing {i}") for i in range(600)]

    class Interrupted(Engine):
        def run(self, batch):
            if self.prompts > 700:
                raise KeyboardInterrupt
            return super().run(batch)

    engine = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        embed_labels(bundle, labels, encoder=lambda: TextEncoder(engine, Letters(), FACTS), cache_dir=cache)
    assert engine.closed
    embed_labels(bundle, labels[:256], encoder=never, cache_dir=cache)


def test_cut_prompts_are_reported_cold_and_warm(bundle, cache):
    labels = [Label("dog"), Label("cat", ("c" * CONTEXT,)), Label("long", ("x" * (CONTEXT + 1), "y"))]
    for encoder in (Encoders(), never):
        notices = []
        embed_labels(bundle, labels, encoder=encoder, cache_dir=cache, notices=notices.append)
        assert len(notices) == 1
        assert "of a label are longer" in notices[0]
        assert "'long'" in notices[0]


def test_a_label_without_a_known_word_is_told_every_time(bundle, cache):
    labels = [Label("dog"), Label("猫"), Label("кот", ("a cat",)), Label("犬", ("狗",))]
    for prompts in (6, 3):  # the others are kept, and those of "猫" and "犬" are not
        notices, encoders = [], Encoders()
        embed_labels(bundle, labels, encoder=encoders, cache_dir=cache, notices=notices.append)
        assert [engine.prompts for engine in encoders.engines] == [prompts]
        assert len(notices) == 1
        assert "knows no word of '猫', '犬'" in notices[0]


# -- a cache that is not as it should be -------------------------------------------------------------------------------


def embed_twice(bundle, cache):
    """Whether the second of two runs found everything, and that both are right."""
    expected = embed_labels(bundle, LABELS, encoder=Encoders(), cache_dir=cache.parent / "elsewhere").embeddings
    notices = []
    for encoders in (Encoders(), Encoders()):
        bank = embed_labels(bundle, LABELS, encoder=encoders, cache_dir=cache, notices=notices.append)
        np.testing.assert_array_equal(bank.embeddings, expected)
    return not encoders.engines, notices


def test_every_flipped_or_missing_part_of_the_file_is_survived_and_mended(bundle, cache):
    embed_labels(bundle, LABELS, encoder=Encoders(), cache_dir=cache)
    path = database_of(cache)
    sound = path.read_bytes()
    random = np.random.default_rng(0)
    damaged = [sound[:length] for length in (0, 1, 50, 100, 4096, 5000, len(sound) - 1)]
    damaged += [b"garbage" * 999, sound + b"tail", bytes(len(sound))]
    for _ in range(60):
        flipped = bytearray(sound)
        for position in random.integers(0, len(sound), 8):
            flipped[position] ^= 1 << int(random.integers(8))
        damaged.append(bytes(flipped))
    for position in (18, 19, 20, 24, 28, 40, 44, 47, 52, 56, 60, 68, 96, 100, 101, 103, 105, 107):
        damaged.append(sound[:position] + bytes([sound[position] ^ 0xFF]) + sound[position + 1 :])
    for content in damaged:
        path.write_bytes(content)
        assert embed_twice(bundle, cache) == (True, [])


def test_an_entry_of_another_label_or_a_changed_one_is_not_believed(bundle, cache):
    embed_labels(bundle, LABELS, encoder=Encoders(), cache_dir=cache)
    with sqlite3.connect(database_of(cache)) as database:
        rows = database.execute("SELECT key, vector, checksum FROM label").fetchall()
        database.execute("UPDATE label SET vector = ?, checksum = ? WHERE key = ?", (*rows[1][1:], rows[0][0]))
        database.execute("UPDATE label SET cut = 5 WHERE key = ?", (rows[2][0],))
    database.close()
    encoders = Encoders()
    notices = []
    embed_labels(bundle, LABELS, encoder=encoders, cache_dir=cache, notices=notices.append)
    assert encoders.engines
    assert notices == []
    assert embed_twice(bundle, cache) == (True, [])


def test_a_table_of_another_making_is_replaced(bundle, cache):
    embed_labels(bundle, LABELS, encoder=Encoders(), cache_dir=cache)
    with sqlite3.connect(database_of(cache)) as database:
        database.execute("DROP TABLE label")
        database.execute("CREATE TABLE label (something TEXT)")
    database.close()
    assert embed_twice(bundle, cache) == (True, [])


def test_a_place_that_cannot_be_written_is_done_without(bundle, tmp_path):
    (tmp_path / "file").write_text("not a directory")
    found, notices = embed_twice(bundle, tmp_path / "file")
    assert not found
    assert notices
    assert all("cannot be written" in notice and str(tmp_path / "file") in notice for notice in notices)


def test_a_directory_in_the_files_place_is_done_without(bundle, cache):
    embed_labels(bundle, LABELS, encoder=Encoders(), cache_dir=cache)
    path = database_of(cache)
    path.unlink()
    path.mkdir()
    found, notices = embed_twice(bundle, cache)
    assert not found
    assert "cannot be written" in notices[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_still_serves(bundle, cache):
    embed_labels(bundle, LABELS, encoder=Encoders(), cache_dir=cache)
    path = database_of(cache)
    path.chmod(stat.S_IRUSR)
    path.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        embed_labels(bundle, LABELS, encoder=never, cache_dir=cache)
        notices = []
        embed_labels(bundle, [Label("new")], encoder=Encoders(), cache_dir=cache, notices=notices.append)
        assert "cannot be written" in notices[0]
    finally:
        path.parent.chmod(stat.S_IRWXU)


def test_a_cache_that_another_process_holds_is_done_without(bundle, cache, monkeypatch):
    monkeypatch.setattr(text_cache, "BUSY_TIMEOUT_S", 0.05)
    embed_labels(bundle, LABELS, encoder=Encoders(), cache_dir=cache)
    holder = sqlite3.connect(database_of(cache), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        found, notices = embed_twice(bundle, cache)
        assert not found
        assert any("locked" in notice for notice in notices)
    finally:
        holder.close()
    assert embed_twice(bundle, cache) == (True, [])


def test_the_oldest_entries_go_first(bundle, cache, monkeypatch):
    monkeypatch.setattr(text_cache, "MAX_ENTRIES", 5)
    labels = [Label(f"thing {i}") for i in range(9)]
    for label in labels:
        embed_labels(bundle, [label], encoder=Encoders(), cache_dir=cache)
    embed_labels(bundle, labels[-5:], encoder=never, cache_dir=cache)
    oldest = Encoders()
    embed_labels(bundle, labels[:1], encoder=oldest, cache_dir=cache)
    assert oldest.engines


def worker(bundle_path, cache, seed, rounds, barrier, failures):
    """Embeds overlapping label sets again and again; now and then ruins the file."""
    bundle = make_bundle(bundle_path / str(seed))
    random = np.random.default_rng(seed)
    barrier.wait()
    for step in range(rounds):
        names = [f"thing {i}" for i in random.choice(40, 8, replace=False)]
        bank = embed_labels(bundle, [Label(n) for n in names], encoder=Encoders(), cache_dir=cache)
        right = [mean_of(f"a photo of a {n}.", n) for n in names]
        if not np.allclose(bank.embeddings, right, atol=1e-6):
            failures.put(names)
        if seed == 0 and step % 7 == 3:
            for path in (cache / "text").glob("*.sqlite"):
                path.write_bytes(path.read_bytes()[: int(random.integers(6000))])


def test_concurrent_processes_do_not_clash(tmp_path, cache):
    context = multiprocessing.get_context("spawn")
    bundles = tmp_path / "bundles"
    bundles.mkdir()
    barrier, failures = context.Barrier(4), context.Queue()
    processes = [context.Process(target=worker, args=(bundles, cache, i, 25, barrier, failures)) for i in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert failures.empty()
    assert embed_twice(make_bundle(bundles / "0"), cache)[0]


def test_a_thousand_labels_are_found_quickly(bundle, cache):
    labels = [Label(f"thing {i}") for i in range(1000)]
    embed_labels(bundle, labels, encoder=Encoders(), cache_dir=cache)
    start_s = time.process_time()  # not of what else runs
    embed_labels(bundle, labels, encoder=never, cache_dir=cache)
    assert time.process_time() - start_s < 1.0  # measured: 0.02 s


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir({}) == tmp_path / ".cache" / "edgeclip"
    assert default_cache_dir({"XDG_CACHE_HOME": "relative"}) == tmp_path / ".cache" / "edgeclip"
    assert str(default_cache_dir({"XDG_CACHE_HOME": "/x"})) == "/x/edgeclip"
    assert str(default_cache_dir({"XDG_CACHE_HOME": "/x", "EDGECLIP_CACHE": "/y"})) == "/y"


# -- an engine that is not as it should be -----------------------------------------------------------------------------


def encoder_returning(change):
    class Broken(Engine):
        def run(self, batch):
            return change(super().run(batch))

    return lambda: TextEncoder(Broken(), Letters(), FACTS)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda out: out * np.nan, EngineError, "not finite"),
        (lambda out: out * 0, EngineError, "empty"),
        (np.ones_like, EngineError, "same embedding"),
        (lambda out: out[:, :-1], DataError, "31 numbers"),
    ],
)
def test_what_cannot_be_an_embedding_is_refused_and_not_kept(bundle, cache, change, error, words):
    with pytest.raises(error, match=words):
        embed_labels(bundle, LABELS, encoder=encoder_returning(change), cache_dir=cache)
    assert embed_twice(bundle, cache) == (True, [])


def test_prompts_that_cancel_out_have_no_direction(bundle, cache):
    engine = encoder_returning(lambda out: np.sign(out[:, :1]) * np.eye(1, DIM, dtype=np.float32))
    signs = {c: np.sign(vector_of(Letters().encode_batch([c], CONTEXT, 0)[0])[0]) for c in "abcdefgh"}
    up, down = (next(c for c, sign in signs.items() if sign == wanted) for wanted in (1, -1))
    with pytest.raises(EngineError, match="cancel"):
        embed_labels(bundle, [Label("both", (up, down))], encoder=engine, cache_dir=cache)


def test_an_engine_for_another_context_is_refused_and_closed():
    engine = Engine()
    engine.input_shape = (1, CONTEXT + 1)
    with pytest.raises(DataError, match="context_length"):
        TextEncoder(engine, Letters(), FACTS)
    assert engine.closed
