from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import toy

from edgeclip.errors import DataError
from edgeclip.train import space
from edgeclip.train.space import (
    bank_phrase,
    neighbour_targets,
    phrase_targets,
    read_vectors,
    teacher_answers,
    teacher_space,
)

NAMES = list(toy.COLOURS)
MADE = toy.pictures(8)
KEYS = [f"train/{index:04}" for index in range(len(MADE))]
CLASSES = sorted(NAMES)
CLASS_IDS = np.array([CLASSES.index(label) for label, _ in MADE])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return toy.write_teachers(tmp_path, MADE)


# -- vectors -----------------------------------------------------------------------------------------------------------


def test_vectors_are_read_as_unit_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, keys=np.array(["a", "b"]), embeddings=np.array([[3, 4], [0, 2]], np.float16))
    keys, rows = read_vectors(str(path))
    assert keys == ["a", "b"]
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 1]], atol=1e-6)


@pytest.mark.parametrize("rows", [[[0, 0], [1, 1]], [[np.nan, 1], [1, 1]], [[np.inf, 1], [1, 1]], [[1, 1]]])
def test_vectors_that_mean_nothing_are_refused(tmp_path: Path, rows: list[list[float]]) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, keys=np.array(["a", "b"]), embeddings=np.array(rows))
    with pytest.raises(DataError, match=r"x\.npz"):
        read_vectors(str(path))


def test_files_that_are_no_vectors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz does not exist"):
        read_vectors(str(tmp_path / "none.npz"))
    path = tmp_path / "x.npz"
    np.savez(path, keys=np.array(["a"]), vectors=np.ones((1, 2)))
    with pytest.raises(DataError, match=r"x\.npz: no `keys` and `embeddings`"):
        read_vectors(str(path))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"nothing of the kind", b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.npz"):
            read_vectors(str(path))


# -- the image teacher's space -----------------------------------------------------------------------------------------


def test_the_space_keeps_the_principal_directions(files: dict[str, str]) -> None:
    made = teacher_space(files["image"], KEYS, 4)
    _, rows = read_vectors(files["image"])
    centred = rows - rows.mean(0)
    np.testing.assert_allclose(made.mean, rows.mean(0), atol=1e-6)
    np.testing.assert_allclose(made.basis.T @ made.basis, np.eye(4), atol=1e-5)
    kept, strongest = np.linalg.norm(centred @ made.basis) ** 2, np.linalg.svd(centred)[1][:4]
    assert kept == pytest.approx((strongest**2).sum(), rel=1e-4)
    wanted = centred @ made.basis
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(made.images, wanted, atol=1e-5)
    assert made.known.all()


def test_pictures_the_teacher_has_not_seen_are_zero_and_move_nothing(files: dict[str, str]) -> None:
    strangers = ["other/1", *KEYS[:20], "other/2", *KEYS[20:]]
    made, whole = teacher_space(files["image"], strangers, 4), teacher_space(files["image"], KEYS, 4)
    assert (~made.known).nonzero()[:, 0].tolist() == [0, 21]
    assert (made.images[~made.known] == 0).all()
    assert (made.raw[~made.known] == 0).all()
    np.testing.assert_allclose(made.mean, whole.mean, atol=1e-6)
    cosine = made.images[made.known] @ made.images[made.known].T
    torch.testing.assert_close(cosine, whole.images @ whole.images.T, atol=1e-3, rtol=0)


def test_too_few_known_pictures_are_refused(files: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"image\.npz: knows 3 of 5 pictures"):
        teacher_space(files["image"], [*KEYS[:3], "x", "y"], 4)


def test_pictures_of_one_name_are_refused(files: dict[str, str]) -> None:
    """Two shards of one file name in different folders: the teacher cannot tell their pictures apart."""
    with pytest.raises(DataError, match="two pictures are named train/0003"):
        teacher_space(files["image"], [*KEYS, KEYS[3]], 4)


# -- phrases -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_bank", [False, True])
def test_phrases_land_among_the_pictures_they_name(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch, with_bank: bool
) -> None:
    monkeypatch.setattr(space, "ADAPTER_STEPS", 200)
    made = teacher_space(files["image"], KEYS, 8)
    bank = files["bank"] if with_bank else ""
    targets = phrase_targets(made, files["text"], CLASSES, CLASS_IDS, bank, 20.0, seed=0)
    named = targets.vectors[[targets.phrases.index(name) for name in CLASSES]]
    assert ((made.images @ named.T).argmax(1).numpy() == CLASS_IDS).mean() > 0.95
    # "crimson" names no class; its place comes from meaning nearly what "red" does.
    crimson = targets.vectors[targets.phrases.index("crimson")]
    assert CLASSES[int((named @ crimson).argmax())] == "red"
    again = phrase_targets(made, files["text"], CLASSES, CLASS_IDS, bank, 20.0, seed=0)
    assert torch.equal(again.vectors, targets.vectors)
    torch.testing.assert_close(targets.vectors.norm(dim=1), torch.ones(len(targets.phrases)))


def test_a_class_the_text_teacher_does_not_know_is_refused(files: dict[str, str]) -> None:
    made = teacher_space(files["image"], KEYS, 4)
    with pytest.raises(DataError, match=r"text\.npz: no phrase 'azure' and 1 others"):
        phrase_targets(made, files["text"], ["azure", "beige", *CLASSES], CLASS_IDS, "", 100.0, 0)


def test_a_bank_without_any_phrase_of_the_text_teacher_is_refused(files: dict[str, str], tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", names=np.array(["mauve"]), embeddings=np.ones((1, 24)))
    made = teacher_space(files["image"], KEYS, 4)
    with pytest.raises(DataError, match=r"odd\.npz"):
        phrase_targets(made, files["text"], CLASSES, CLASS_IDS, str(tmp_path / "odd.npz"), 100.0, 0)


@pytest.mark.parametrize(
    ("name", "phrase"),
    [("cat", "cat"), ("wall-brick", "brick wall"), ("sky-other", "sky"), ("food-stuff", "food")],
)
def test_bank_names_are_said_as_a_person_would(name: str, phrase: str) -> None:
    assert bank_phrase(name) == phrase


# -- neighbours and answers --------------------------------------------------------------------------------------------


def test_a_phrase_goes_to_its_neighbours(files: dict[str, str]) -> None:
    vectors = torch.nn.functional.normalize(torch.randn(len(NAMES), 8, generator=torch.Generator().manual_seed(1)))
    placed = neighbour_targets(files["text"], [*NAMES, "no such phrase"], torch.cat([vectors, vectors[:1]]))
    assert placed.phrases == [*NAMES, "crimson"]
    near = placed.vectors @ vectors.T
    assert near.argmax(1).tolist() == [*range(len(NAMES)), NAMES.index("red")]
    assert near.diagonal().min() > 0.95
    torch.testing.assert_close(placed.vectors.norm(dim=1), torch.ones(len(placed.phrases)))


def test_neighbours_need_one_phrase_that_is_known(files: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"text\.npz"):
        neighbour_targets(files["text"], ["no such phrase"], torch.ones(1, 8))


def test_the_teachers_answers_are_its_own_names_of_a_picture(files: dict[str, str]) -> None:
    space_ = teacher_space(files["image"], KEYS, 8)
    phrases, scores = teacher_answers(space_, files["bank"], 100.0)
    assert phrases == sorted(NAMES)
    torch.testing.assert_close(scores.sum(1), torch.ones(len(KEYS)))
    assert (scores.argmax(1).numpy() == CLASS_IDS).mean() > 0.5  # the toy's images share what its words have not


def test_names_that_are_one_phrase_are_added_up(files: dict[str, str], tmp_path: Path) -> None:
    with np.load(files["bank"]) as stored:
        names, rows = stored["names"].tolist(), stored["embeddings"]
    double = tmp_path / "double.npz"
    np.savez(double, names=np.array([*names, "red-other"]), embeddings=np.concatenate([rows, rows[:1]]))
    space_ = teacher_space(files["image"], KEYS, 8)
    phrases, scores = teacher_answers(space_, str(double), 10.0)
    assert phrases == sorted(NAMES)
    assert (
        scores[:, phrases.index("red")].mean()
        > teacher_answers(space_, files["bank"], 10.0)[1][:, phrases.index("red")].mean()
    )


def test_a_run_keeps_to_the_space_it_began_with(files: dict[str, str], tmp_path: Path) -> None:
    kept = tmp_path / "space.npz"
    first = teacher_space(files["image"], KEYS, 8, kept)
    some = tmp_path / "some.npz"
    with np.load(files["image"]) as stored:
        np.savez(some, keys=stored["keys"][:20], embeddings=stored["embeddings"][:20])
    again = teacher_space(str(some), KEYS, 8, kept)
    torch.testing.assert_close(again.images[:20], first.images[:20])
    other = teacher_space(str(some), KEYS, 8)
    assert not torch.allclose(other.images[:20], first.images[:20], atol=1e-2)
    with pytest.raises(DataError, match=r"space\.npz"):
        teacher_space(files["image"], KEYS, 6, kept)
    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(DataError, match=r"space\.npz is damaged"):
        teacher_space(files["image"], KEYS, 8, kept)
