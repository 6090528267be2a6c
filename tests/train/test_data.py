from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import toy

from edgeclip.errors import DataError
from edgeclip.train import data
from edgeclip.train.data import LONGEST, STORED_SIDE, PairSet, bare_phrases, centre_square, epoch_batches, read_pairs

SEED = (7, 0, 2)


@pytest.fixture
def pairs(tmp_path: Path) -> PairSet:
    return read_pairs([str(toy.write_tar(tmp_path / "some.tar", toy.pictures(5)))])


# -- reading -----------------------------------------------------------------------------------------------------------


def test_shards_class_folders_and_csv_give_the_same_pairs(tmp_path: Path) -> None:
    made = sorted(toy.pictures(3), key=lambda picture: picture[0])  # class folders are read in this order
    sets = [
        read_pairs([str(toy.write_tar(tmp_path / "a.tar.gz", made))]),
        read_pairs([str(toy.write_folders(tmp_path / "b", made))]),
        read_pairs([str(toy.write_csv(tmp_path / "c" / "pairs.csv", made))]),
    ]
    for pairs in sets:
        assert pairs.texts == [(label,) for label, _ in made]
        assert pairs.classes == sorted(toy.COLOURS)
        assert [pairs.classes[index] for index in pairs.class_ids] == [label for label, _ in made]
        for picture, (_, rgb) in zip(pairs.pictures(), made, strict=True):
            np.testing.assert_array_equal(picture, rgb)
    assert sets[0].keys[0] == "a/0000"


def test_texts_and_class_are_kept_apart(tmp_path: Path) -> None:
    made = [("Red", toy.pictures(1)[0][1]), ("blue", toy.pictures(1)[2][1])]
    shard = toy.write_tar(tmp_path / "x.tar", made, texts=[["a Brick", "two bricks"], []])
    pairs = read_pairs([str(shard)])
    assert pairs.texts == [("a Brick", "two bricks"), ("blue",)]
    assert pairs.classes == ["blue", "red"]
    assert bare_phrases(pairs) == {"blue", "red", "a Brick", "two bricks"}


def test_patterns_are_read_once_each_and_in_order(tmp_path: Path) -> None:
    for name in ("one", "two"):
        toy.write_tar(tmp_path / f"{name}.tar", toy.pictures(1))
    pairs = read_pairs([str(tmp_path / "*.tar"), str(tmp_path / "two.tar")])
    assert [key.split("/")[0] for key in pairs.keys] == ["one"] * 6 + ["two"] * 6


def test_a_picture_without_a_text_is_refused(tmp_path: Path) -> None:
    shard = toy.write_tar(tmp_path / "x.tar", [("", toy.pictures(1)[0][1])], texts=[[]])
    with pytest.raises(DataError, match=r"x\.tar: 0000 has no text"):
        read_pairs([str(shard)])


def test_missing_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none-\*\.tar"):
        read_pairs([str(tmp_path / "none-*.tar")])
    with pytest.raises(DataError, match="no pairs"):
        read_pairs([])


@pytest.mark.parametrize(("high", "wide"), [(1000, 20), (20, 1000), (700, 300), (300, 700), (400, 400)])
def test_pictures_are_kept_small_and_not_too_long(tmp_path: Path, high: int, wide: int) -> None:
    ramp = np.zeros((high, wide, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, wide)  # red left to right
    picture = read_pairs([str(toy.write_tar(tmp_path / "x.tar", [("ramp", ramp)]))]).picture(0)
    short, long = sorted(picture.shape[:2])
    assert short == min(STORED_SIDE, high, wide)
    assert long == min(LONGEST, max(high, wide) / min(high, wide)) * short or abs(long / short - 7 / 3) < 0.4
    assert long <= LONGEST * short
    middle = picture[:, picture.shape[1] // 2, 0].mean()
    assert middle == pytest.approx(127.5, abs=8)  # cut about the middle, and RGB
    assert picture[..., 1:].max() == 0


def test_centre_square_takes_the_middle() -> None:
    rgb = np.zeros((20, 40, 3), np.uint8)
    rgb[:, 10:30] = 200
    np.testing.assert_array_equal(centre_square(rgb, 20), np.full((20, 20, 3), 200, np.uint8))
    assert centre_square(rgb, 32).shape == (32, 32, 3)


# -- batches -----------------------------------------------------------------------------------------------------------


def batches(pairs: PairSet, seed: tuple[int, ...] = SEED, skip: int = 0, side: int = 16) -> list[data.Batch]:
    return list(epoch_batches(pairs, np.arange(len(pairs)), 4, side, (0.35, 1.0), seed, skip))


def test_an_epoch_holds_every_pair_at_most_once_in_whole_batches(pairs: PairSet) -> None:
    seen = np.concatenate([batch.indices for batch in batches(pairs)])
    assert len(seen) == len(set(seen)) == len(pairs) // 4 * 4
    assert all(batch.pixels.shape == (4, 16, 16, 3) for batch in batches(pairs))


def test_order_and_views_are_a_function_of_the_seed(pairs: PairSet) -> None:
    first, again, other = batches(pairs), batches(pairs), batches(pairs, (7, 0, 3))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.indices, two.indices)
        np.testing.assert_array_equal(one.pixels, two.pixels)
    assert [b.indices.tolist() for b in first] != [b.indices.tolist() for b in other]


def test_skipped_batches_change_nothing_in_the_others(pairs: PairSet) -> None:
    whole = batches(pairs)
    for skip in (1, 3, len(whole)):
        rest = batches(pairs, skip=skip)
        assert len(rest) == len(whole) - skip
        for one, two in zip(whole[skip:], rest, strict=True):
            np.testing.assert_array_equal(one.indices, two.indices)
            np.testing.assert_array_equal(one.pixels, two.pixels)


def test_views_of_a_picture_differ_and_still_show_it(pairs: PairSet) -> None:
    rng = np.random.default_rng(0)
    at = next(i for i in range(len(pairs)) if pairs.texts[i] == ("blue",))
    views = [data.random_view(pairs.picture(at), 16, (0.35, 1.0), rng) for _ in range(40)]
    assert len({view.tobytes() for view in views}) == 40
    grey = [view for view in views if (view[..., 0] == view[..., 2]).all()]
    assert len(grey) < 15
    for view in views:
        assert view.shape == (16, 16, 3)
        assert view.dtype == np.uint8
        red, _, blue = view.reshape(-1, 3).mean(0)
        assert blue > red or any(view is one for one in grey)


def test_only_the_pairs_named_are_drawn(pairs: PairSet) -> None:
    among = np.array([1, 5, 9, 13, 17])
    drawn = list(epoch_batches(pairs, among, 5, 0, (0.35, 1.0), SEED))
    assert sorted(drawn[0].indices) == among.tolist()
    assert drawn[0].pixels.size == 0


def test_a_consumer_that_stops_early_leaves_no_thread(pairs: PairSet) -> None:
    stream = epoch_batches(pairs, np.arange(len(pairs)), 4, 16, (0.35, 1.0), SEED)
    next(stream)
    assert any(thread.name.startswith("batches") for thread in threading.enumerate())
    stream.close()  # type: ignore[attr-defined]
    assert not any(thread.name.startswith("batches") for thread in threading.enumerate())


def test_a_failure_while_a_batch_is_prepared_reaches_the_consumer(
    pairs: PairSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise MemoryError("no room for this view")

    monkeypatch.setattr(data, "random_view", broken)
    with pytest.raises(MemoryError, match="no room"):
        batches(pairs)
