from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from commandline import Captured, complaint

from edgeclip.cli import main
from edgeclip.errors import BAD_DATA

pytestmark = pytest.mark.usefixtures("bare_environment")


def test_labels_check(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog: a dog | a puppy\n")
    assert main(["labels", "check", str(path)]) == 0
    assert "2 labels" in capsys.readouterr().out
    path.write_text("cat\n\ncat\n")
    assert main(["labels", "check", str(path)]) == BAD_DATA
    assert f"{path}:3" in complaint(capsys)


def test_labels_list(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("Käse\ndog: a dog | a puppy\n", encoding="utf-8")
    assert main(["labels", "list", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == ["Käse", "dog: a dog | a puppy"]
    assert main(["labels", "list", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"Käse": [], "dog": ["a dog", "a puppy"]}


def test_the_built_in_labels_are_well(capsys: Captured) -> None:
    import edgeclip

    assert main(["labels", "check", str(Path(edgeclip.__file__).parent / "data" / "everyday.txt")]) == 0


def test_labels_check_says_which_sentences_are_the_same_to_the_model(
    tiny_path: Path, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("dog\n\ncat\nhound: a photo of a dog | dog\n")
    words = ["labels", "check", str(path), "--bundle", str(tiny_path)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "3 labels" in said
    assert re.search(r"lines 1 and 4: 'dog' and 'hound' are nearly the same sentence to tiny: (1\.00|0\.9\d)", said)
    assert main([*words, "--json"]) == 0
    assert [one["kind"] for one in json.loads(capsys.readouterr().out)["collisions"]].count("labels") >= 1
    path.write_text("dog\ndog\n")
    assert main(words) == BAD_DATA


def test_labels_embed_fills_the_cache(tiny_path: Path, labels: Path, capsys: Captured) -> None:
    assert main(["labels", "embed", str(labels), "--bundle", str(tiny_path)]) == 0
    assert "3 labels are embedded for tiny" in capsys.readouterr().out
