"""Evaluation with real engines, small ones that see colours and know colour words."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image
from tiny_bundle import Weights, tokenizer_json, write_bundle

from edgeclip import evaluate as evaluate_module
from edgeclip.bundle import open_bundle, write_digests
from edgeclip.errors import DataError
from edgeclip.evaluate import evaluate, measure_retrieval, rank_of_wanted
from edgeclip.runtime import labelbank
from edgeclip.runtime.backends import load_engine
from edgeclip.types import Label

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "red", "green", "blue", "thing"]
COLOURS = {"red": (250, 5, 5), "green": (5, 250, 5), "blue": (5, 5, 250), "cyan": (5, 200, 250)}
LABELS = [Label("Red"), Label("green"), Label("blue")]


def colour_weights():
    """Encoders whose first three dimensions are red, green and blue: of a picture's mean, and of a prompt's words."""
    weights = Weights()
    for array in vars(weights).values():
        array[...] = 0.0
    weights.tokens[:, :3] = 0.00125  # words of no colour lie in the middle
    for channel, word in enumerate(("red", "green", "blue")):
        weights.kernel[channel, 1, 1, channel] = 1.0
        weights.image[channel, channel] = weights.text[channel, channel] = 1.0
        weights.tokens[WORDS.index(word), channel] += 1.0
    return weights


@pytest.fixture
def engines(monkeypatch):
    """Every engine that was opened: [role, whether it is closed]."""
    opened = []

    def load(bundle, role, **options):
        engine = load_engine(bundle, role, **options)
        entry, close = [role, False], engine.close

        def closed():
            entry[1] = True
            close()

        monkeypatch.setattr(engine, "close", closed)
        opened.append(entry)
        return engine

    monkeypatch.setattr(evaluate_module, "load_engine", load)
    monkeypatch.setattr(labelbank, "load_engine", load)
    return opened


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = write_bundle(tmp_path_factory.mktemp("colours") / "bundle", colour_weights())
    tokenizer = json.loads(tokenizer_json())
    tokenizer["model"]["vocab"] = {word: index for index, word in enumerate(WORDS)}
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    write_digests(path)
    return open_bundle(path)


def shard(path, rows):
    """rows: (colour of the picture, label, texts)."""
    with tarfile.open(path, "w") as tar:
        for number, (colour, label, texts) in enumerate(rows):
            png = io.BytesIO()
            Image.new("RGB", (20, 16), COLOURS[colour]).save(png, "PNG")
            for suffix, data in ((".png", png.getvalue()), (".json", json.dumps({"label": label, "texts": texts}))):
                raw = data if isinstance(data, bytes) else data.encode()
                member = tarfile.TarInfo(f"{number:04}{suffix}")
                member.size = len(raw)
                tar.addfile(member, io.BytesIO(raw))
    return path


@pytest.fixture
def data(tmp_path):
    return shard(
        tmp_path / "x.tar",
        [
            ("red", "RED", []),
            ("green", "red", []),  # mistaken for green
            ("green", "Green", []),
            ("blue", "blue", []),
            ("cyan", "thing", []),  # not among the labels
            ("cyan", "", []),  # no label
        ],
    )


def test_accuracy_counts_what_the_labels_name(bundle, data, engines, tmp_path):
    result = evaluate(bundle, data, LABELS, cache_dir=tmp_path / "cache")
    assert (result.top1, result.top5, result.n, result.skipped, result.labels) == (0.75, 1.0, 4, 2, 3)
    assert [(c.label, c.n, c.top1) for c in result.classes] == [("Red", 2, 0.5), ("green", 1, 1.0), ("blue", 1, 1.0)]
    assert [(c.label, c.predicted, c.n) for c in result.confusions] == [("Red", "green", 1)]
    assert result.retrieval is None
    assert result.ms_per_image_p50 > 0
    assert result.bundle == "tiny"
    assert result.runtime.startswith("LiteRT")
    assert engines == [["image", True], ["text", True]]


def test_top5_is_the_fifth_place_and_no_further(bundle, engines, tmp_path):
    less_and_less_red = ["red", "red red red blue", "red red blue green", "red red blue blue", "red blue blue blue"]
    labels = [Label("blue"), *(Label(f"place {i}", (p,)) for i, p in enumerate(less_and_less_red, 1))]
    for label, top1, top5 in (("place 1", 1, 1), ("place 2", 0, 1), ("place 5", 0, 1), ("blue", 0, 0)):
        data = shard(tmp_path / "x.tar", [("red", label, [])])
        result = evaluate(bundle, data, labels, cache_dir=tmp_path / "cache")
        assert (result.top1, result.top5) == (top1, top5)


def test_without_labels_the_datas_own_are_taken(bundle, data, engines, tmp_path):
    result = evaluate(bundle, data, cache_dir=tmp_path / "cache")
    assert (result.n, result.skipped, result.labels) == (5, 1, 4)
    assert [c.label for c in result.classes] == ["blue", "green", "red", "thing"]


def test_with_a_warm_cache_only_the_image_engine_is_opened(bundle, data, engines, tmp_path):
    for _ in range(2):
        evaluate(bundle, data, LABELS, cache_dir=tmp_path / "cache")
    assert [role for role, _ in engines] == ["image", "text", "image"]


def test_retrieval_treats_equal_captions_as_one(bundle, engines, tmp_path):
    data = shard(
        tmp_path / "x.tar",
        [
            ("red", "", ["a red thing"]),
            ("red", "", ["a red thing", "a photo"]),
            ("blue", "", ["a blue thing"]),
            ("green", "", ["a blue thing"]),  # nothing green is written of
            ("cyan", "", []),
        ],
    )
    result = evaluate(bundle, data, LABELS, cache_dir=tmp_path / "cache")
    assert (result.top1, result.top5, result.n, result.classes) == (None, None, 0, ())
    assert result.retrieval is not None
    assert (result.retrieval.images, result.retrieval.texts) == (4, 3)
    assert result.retrieval.image_to_text.r1 == 0.75
    assert result.retrieval.image_to_text.r5 == 1.0
    assert result.retrieval.text_to_image.r1 == pytest.approx(2 / 3)


def test_the_result_is_json(bundle, data, engines, tmp_path):
    result = evaluate(bundle, data, LABELS, cache_dir=tmp_path / "cache")
    assert json.loads(json.dumps(result.as_dict()))["classes"][0] == {"label": "Red", "n": 2, "top1": 0.5}


def test_nothing_to_compare_is_refused(bundle, data, engines, tmp_path):
    with pytest.raises(DataError, match="among the 1 labels") as caught:
        evaluate(bundle, data, [Label("teapot")], cache_dir=tmp_path / "cache")
    assert "--labels" in caught.value.hint


def test_engines_are_closed_when_the_data_is_bad(bundle, engines, tmp_path):
    (tmp_path / "data" / "dog").mkdir(parents=True)
    (tmp_path / "data" / "dog" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1\.png is not a readable picture"):
        evaluate(bundle, tmp_path / "data", cache_dir=tmp_path / "cache")
    assert engines == [["image", True]]


class Recorder:
    def __init__(self):
        self.said = []

    def stage(self, name, total=None):
        self.said.append([name, total, 0])

    def advance(self, n=1):
        self.said[-1][2] += n

    def note(self, text):
        self.said.append(text)

    def done(self):
        pass


def test_progress_is_reported(bundle, data, engines, tmp_path):
    progress = Recorder()
    long = Label("long", ("a red thing, a blue thing, a green thing",))
    evaluate(bundle, data, [*LABELS, long], cache_dir=tmp_path / "cache", progress=progress)
    assert progress.said[:2] == [["pictures", None, 6], ["labels", 4, 4]]
    assert "of a label are longer" in progress.said[2]
    assert "'long'" in progress.said[2]


def unit(random, *shape):
    rows = random.normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def test_ranks_are_those_of_a_sort(monkeypatch):
    monkeypatch.setattr(evaluate_module, "_ROWS_PER_STEP", 7)
    random = np.random.default_rng(0)
    images, texts = unit(random, 50, 8), unit(random, 20, 8)
    texts[5] = texts[3]  # a tie: the earlier one comes first
    wanted = random.integers(0, 20, 50)
    best, places = rank_of_wanted(images, texts, wanted)
    for row, image in enumerate(images):
        order = np.argsort(-(images[row : row + 1] @ texts.T)[0], kind="stable").tolist()
        assert abs(float(image @ texts[best[row]] - image @ texts[order[0]])) < 1e-6
        if wanted[row] not in (3, 5):
            assert places[row] == order.index(wanted[row])


def test_retrieval_is_that_of_a_sort(monkeypatch):
    monkeypatch.setattr(evaluate_module, "_ROWS_PER_STEP", 7)
    random = np.random.default_rng(1)
    images, texts = unit(random, 40, 6), unit(random, 30, 6)
    pairs = [(image, text) for image in range(0, 40, 2) for text in {image // 2, (7 * image) % 30}]
    pairs += [(0, text) for text in range(20, 30)]
    result = measure_retrieval(images, texts, pairs)
    sims = images @ texts.T
    for k, got in ((1, result.image_to_text.r1), (5, result.image_to_text.r5), (10, result.image_to_text.r10)):
        hits = [any((i, t) in pairs for t in np.argsort(-sims[i])[:k]) for i in range(0, 40, 2)]
        assert got == pytest.approx(np.mean(hits))
    for k, got in ((1, result.text_to_image.r1), (5, result.text_to_image.r5), (10, result.text_to_image.r10)):
        some = sims[::2].T
        hits = [any((2 * i, t) in pairs for i in np.argsort(-some[t])[:k]) for t in range(30)]
        assert got == pytest.approx(np.mean(hits))


def test_an_engine_that_returns_one_vector_retrieves_nothing():
    same = np.tile(np.eye(1, 4, dtype=np.float32), (20, 1))
    result = measure_retrieval(same, same, [(i, i) for i in range(20)])
    assert result.image_to_text.r10 == result.text_to_image.r10 == 0.0
