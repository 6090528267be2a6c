"""The fit on a made-up space: labels are directions, pictures lie around them in a narrow cone."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest

from edgeclip.runtime.fewshot import WAYS, Fit, fit

Array = npt.NDArray[np.float32]
DIM, SCALE = 64, 20.0


def unit(rows: npt.NDArray[np.floating]) -> Array:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


class World:
    """True directions of labels [L, D]; texts are these, or (lost) something else."""

    def __init__(self, labels: int, seed: int = 0, lost: tuple[int, ...] = ()) -> None:
        self.random = np.random.default_rng(seed)
        self.cone = self.random.normal(size=DIM)
        self.truth = unit(self.random.normal(size=(labels, DIM)))
        texts = self.truth + 0.5 * unit(self.random.normal(size=(labels, DIM)))
        texts[list(lost)] = self.random.normal(size=(len(lost), DIM))
        self.texts = unit(texts)
        self.background = self.pictures(self.random.integers(0, labels, 8))

    def pictures(self, rows: npt.ArrayLike) -> Array:
        rows = np.asarray(rows)
        noise = 0.13 * self.random.normal(size=(len(rows), DIM))
        return unit(0.12 * self.cone + self.truth[rows] + noise)

    def accuracy(self, fitted: Fit, rows: npt.ArrayLike) -> float:
        rows = np.asarray(rows)
        tests = self.pictures(np.repeat(rows, 60))
        similarities = tests @ self.texts.T
        if fitted.refinement is not None:
            fitted.refinement.add(tests, similarities)
        return float((similarities.argmax(axis=1) == np.repeat(rows, 60)).mean())

    def taught(self, rows: npt.ArrayLike, count: int, ways: tuple[str, ...] = WAYS) -> Fit:
        own = np.repeat(np.asarray(rows), count)
        return fit(self.texts, SCALE, self.pictures(own), own, self.background, ways)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_learns_labels_whose_texts_say_nothing(way: str) -> None:
    world = World(6, lost=(0, 1, 2, 3, 4, 5))
    before = world.accuracy(Fit(None, "text", 0.0, 0.0, None), range(6))
    fitted = world.taught(range(6), 8, (way,))
    assert before < 0.5
    assert fitted.way == way
    assert fitted.taught is not None
    assert fitted.taught > 0.9 > fitted.text
    assert world.accuracy(fitted, range(6)) > 0.9


def test_more_shots_are_better() -> None:
    curve = []
    for count in (1, 4, 16):
        worlds = [World(12, seed, lost=tuple(range(12))) for seed in range(4)]
        curve.append(np.mean([world.accuracy(world.taught(range(12), count), range(12)) for world in worlds]))
    assert curve[0] < curve[1] <= curve[2] + 0.005
    assert curve[2] > 0.9


def probed(world: World, rows: npt.ArrayLike, count: int) -> float:
    """Accuracy of a plain linear probe: ridge regression on the shots, without a word."""
    own = np.repeat(np.asarray(rows), count)
    shots, tests, wanted = world.pictures(own), world.pictures(np.repeat(rows, 60)), np.repeat(rows, 60)
    centre, one_hot = shots.mean(axis=0), np.eye(len(world.texts))[own]
    keys = unit(shots - centre)
    linear = np.linalg.solve(keys.T @ keys + np.eye(DIM), keys.T @ (one_hot - one_hot.mean(axis=0)))
    return float(((unit(tests - centre) @ linear).argmax(axis=1) == wanted).mean())


@pytest.mark.parametrize("lost", [(), (0, 1, 2, 3, 4, 5), tuple(range(12))])
def test_never_clearly_worse_than_the_text_or_a_probe_without_text(lost: tuple[int, ...]) -> None:
    plain, rows = Fit(None, "text", 0.0, 0.0, None), range(12)
    for count in (4, 16):
        worlds = [World(12, seed, lost) for seed in range(4)]
        ours = np.mean([world.accuracy(world.taught(rows, count), rows) for world in worlds])
        text = np.mean([world.accuracy(plain, rows) for world in worlds])
        probe = np.mean([probed(world, rows, count) for world in worlds])
        assert ours > max(text, probe) - 0.02, count


def test_one_label_taught_of_many_is_found_and_the_others_are_still_themselves() -> None:
    world = World(20, lost=(3,))
    others = [row for row in range(20) if row != 3]
    plain = Fit(None, "text", 0.0, 0.0, None)
    kept, fitted = world.accuracy(plain, others), world.taught([3], 8)
    assert world.accuracy(plain, [3]) < 0.2
    assert world.accuracy(fitted, [3]) > 0.6
    assert world.accuracy(fitted, others) > kept - 0.05


def test_frames_keep_what_was_taught_from_taking_the_others() -> None:
    """Twenty labels resemble the one that was taught; eight golden frames, of none of these, cannot tell."""
    others, few, many, own = [row for row in range(40) if row != 3], [], [], []
    plain = Fit(None, "text", 0.0, 0.0, None)
    for seed in range(4):
        world = World(40, seed)
        world.truth[4:24] = unit(0.8 * world.truth[4:24] + world.truth[3])
        world.texts = unit(world.truth + 0.5 * unit(world.random.normal(size=(40, DIM))))
        world.background = world.pictures(range(24, 32))
        few.append(world.accuracy(world.taught([3], 8), others))
        world.background = world.pictures(np.arange(160) % 40)
        fitted = world.taught([3], 8)
        many.append(world.accuracy(fitted, others))
        own.append(world.accuracy(fitted, [3]) - world.accuracy(plain, [3]))
    assert np.mean(many) > np.mean(few) + 0.04
    assert np.mean(own) > 0.2


def test_frames_that_show_what_is_taught_say_nothing_against_it() -> None:
    found = []
    for showing in (0, 30):
        worlds = [World(40, seed, lost=(3,)) for seed in range(4)]
        for world in worlds:
            others = [row for row in range(40) if row != 3]
            world.background = world.pictures([*others, *others, *others, *[3] * showing])
        found.append(np.mean([world.accuracy(world.taught([3], 8), [3]) for world in worlds]))
    assert found[0] > 0.6
    assert found[1] > found[0] - 0.1


def test_text_that_knows_the_shots_is_left_alone() -> None:
    world = World(5)
    world.texts = unit(world.truth)
    own = np.repeat(np.arange(5), 4)
    wrong = world.pictures(np.random.default_rng(1).permutation(own))  # shots of anything, taught as something
    assert fit(world.texts, SCALE, wrong, own, world.background).taught is not None
    assert world.accuracy(fit(world.texts, SCALE, wrong, own, world.background), range(5)) > 0.8


def test_a_single_shot_of_each_counts_the_more_the_less_the_text_knows() -> None:
    lost, known = World(5, lost=tuple(range(5))), World(5)
    assert lost.taught(range(5), 1).weight > 2 * known.taught(range(5), 1).weight
    assert lost.taught(range(5), 1).taught is None


def test_what_is_added_depends_on_columns_alone() -> None:
    world = World(6, lost=(2, 4))
    refinement = world.taught([2, 4], 4).refinement
    assert refinement is not None
    before = world.pictures([0, 1]) @ world.texts.T
    after = before.copy()
    refinement.add(world.pictures([0, 1]), after)
    untouched = [0, 1, 3, 5]
    np.testing.assert_array_equal(after[:, untouched], before[:, untouched])
    assert (after[:, [2, 4]] != before[:, [2, 4]]).all()


@pytest.mark.parametrize("way", WAYS)
def test_the_hot_path_is_short(way: str) -> None:
    """Under 0.1 ms on a quiet machine for 10 labels with 16 shots of 256 dimensions; ten times that here."""
    random = np.random.default_rng(0)
    texts, shots = unit(random.normal(size=(40, 256))), unit(random.normal(size=(160, 256)))
    own = np.repeat(np.arange(10), 16)
    shots = unit(shots + unit(random.normal(size=(10, 256)))[own])
    refinement = fit(texts, SCALE, shots, own, unit(random.normal(size=(8, 256))), (way,)).refinement
    assert refinement is not None
    row = np.zeros((1, 40), np.float32)
    seconds = []
    for _ in range(50):
        began_s = time.perf_counter()
        refinement.add(shots[:1], row)
        seconds.append(time.perf_counter() - began_s)
    assert min(seconds) < 1e-3
