from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeclip.bundle import Bundle
from edgeclip.collisions import Sentence, check_file, collisions, watch_sentences
from edgeclip.runtime.shots import Shot
from edgeclip.types import Label

WATCHES = """\
labels:
  - dog
  - cup: [red cup, cup]
watches:
  - name: door
    prompts: a house
    negatives:
      - a photo of a house
      - tree
  - name: gate
    prompts: a house
    region: {box: [0, 0, 1, 0.5]}
  - name: hound
    prompts: dog
"""


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "watches.yaml"
    path.write_text(WATCHES)
    assert [(sentence.kind, sentence.label.name, sentence.line) for sentence in watch_sentences(path)] == [
        ("label", "dog", 2),
        ("label", "cup", 3),
        ("watch", "door", 5),
        ("negative", "a photo of a house", 7),
        ("negative", "tree", 7),
        ("watch", "gate", 10),
        ("watch", "hound", 13),
    ]


def test_only_what_competes_collides() -> None:
    """All sentences the same: labels with labels, watches that look at one place, watches with their own negatives."""
    sentences = [
        Sentence("label", Label("dog"), 1, ""),
        Sentence("label", Label("hound"), 2, ""),
        Sentence("watch", Label("door"), 3, "all"),
        Sentence("negative", Label("gate"), 4, "door"),
        Sentence("watch", Label("yard"), 5, "all"),
        Sentence("watch", Label("left"), 6, "left"),
    ]
    found = collisions(sentences, np.ones((6, 6), np.float32), 0.9)
    assert {(pair.kind, pair.first, pair.second) for pair in found} == {
        ("labels", "dog", "hound"),
        ("negative", "door", "gate"),
        ("watches", "door", "yard"),
    }
    assert all(pair.so for pair in found)
    assert not collisions(sentences, np.eye(6, dtype=np.float32), 0.9)


def test_a_watches_file_is_checked_with_the_models_own_texts(tmp_path: Path, tiny: Bundle) -> None:
    path = tmp_path / "watches.yaml"
    path.write_text(WATCHES)
    found = check_file(path, tiny)
    assert (found.labels, found.watches) == (2, 3)
    assert all(pair.similarity >= 0.9 for pair in found.collisions)


def test_the_example_in_the_manual_holds_no_collision_for_nano() -> None:
    from edgeclip.bundle import open_bundle

    found = check_file(Path(__file__).parents[1] / "docs" / "watches.yaml", open_bundle())
    assert (found.labels, found.watches, found.collisions) == (3, 3, ())


def test_what_was_taught_is_told_whether_named_or_not(tiny: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "watches.yaml"
    path.write_text("labels: [Dog]\nwatches: [{name: the door, negatives: [cat]}]\n")
    shots = [
        *(Shot(f"d{number}", "dog", "", "") for number in range(3)),
        Shot("d3", "dog", "", "", "an outlier"),
        Shot("t0", "the door", "", ""),
        Shot("c0", "cat", "", ""),
    ]
    found = check_file(path, tiny, shots=shots)
    assert found.taught == {"dog": 3, "the door": 1}
    assert found.taught_elsewhere == {"cat": 1}  # a negative is no label of that name


def test_what_the_model_knows_no_word_of_is_named(tmp_path: Path) -> None:
    from edgeclip.bundle import open_bundle

    path = tmp_path / "labels.txt"
    path.write_text("一只猫\ndog\n狗: a dog\n", encoding="utf-8")
    assert check_file(path, open_bundle()).foreign == ("一只猫",)
