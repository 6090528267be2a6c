from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeclip.errors import BAD_DATA, DataError
from edgeclip.train.corpus import main, read_synonyms, synonyms_of, wordnet_phrases, wordnet_synonyms

NOUNS = """\
  1 This software and database is being provided to you, the LICENSEE, by
  2 Princeton University under the following license.
02084071 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 002 @ 02083346 n 0000 | a member of the genus Canis
05790012 09 n 01 idea 0 001 @ 05809192 n 0000 | the content of cognition
03001627 06 n 01 chair 0 001 @ 04161981 n 0000 | a seat for one person, with a support for the back
07873807 13 n 02 pizza 0 pizza_pie 0 001 @ 07557434 n 0000 | Italian open pie
07873808 13 n 01 pizza 0 001 @ 07557434 n 0000 | Italian open pie
03001629 06 n 0a a 0 b_of_c_d 0 x2 0 {long} 0 sun_dial 0 tea_cup 0 tea-cup 0 mug 0 stein 0 jug 0 001 @ 1 n 0000 | ten
""".replace("{long}", "very_" * 2 + "x" * 30)
COUNTS = """\
chair%1:06:00:: 1 40
dog%1:05:00:: 1 40
dog%2:38:00:: 1 900
mug%1:06:00:: 1 2
mug%1:06:01:: 2 60
"""


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    (tmp_path / "data.noun").write_text(NOUNS, encoding="ascii")
    (tmp_path / "cntlist.rev").write_text(COUNTS, encoding="ascii")
    return tmp_path


def test_names_of_visible_things_the_counted_first_then_the_short(wordnet: Path) -> None:
    assert wordnet_phrases(wordnet, 100) == [
        *("mug", "dog", "chair"),  # counts of nouns alone, added up: 62, 40, 40
        *("a", "jug", "pizza", "stein", "tea cup", "tea-cup", "sun dial", "pizza pie", "domestic dog"),
    ]


def test_no_more_than_asked_for(wordnet: Path) -> None:
    assert wordnet_phrases(wordnet, 2) == ["mug", "dog"]


def test_a_folder_without_wordnet_is_refused(wordnet: Path) -> None:
    for name in ("cntlist.rev", "data.noun"):
        (wordnet / name).unlink()
        with pytest.raises(DataError, match=rf"{name} does not exist"):
            wordnet_phrases(wordnet, 10)


def test_the_command_writes_one_phrase_a_line(
    wordnet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = wordnet / "corpus.txt"
    monkeypatch.setattr(sys, "argv", ["corpus", str(wordnet), "--out", str(out), "--most", "3"])
    assert main() == 0
    assert out.read_text(encoding="utf-8") == "mug\ndog\nchair\n"
    monkeypatch.setattr(sys, "argv", ["corpus", str(wordnet / "none"), "--out", str(out)])
    assert main() == BAD_DATA
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "fix: apt-get install wordnet-base" in said


def test_synonyms_are_those_of_the_commonest_visible_sense(wordnet: Path) -> None:
    with (wordnet / "data.noun").open("a", encoding="ascii") as stream:
        stream.write("04000000 06 n 02 dog 1 firedog 0 001 @ 1 n 0000 | metal supports for logs\n")
    found = wordnet_synonyms(wordnet)
    assert found["dog"] == ["domestic dog", "canis familiaris"]  # counted 40 times, the firedog never
    assert found["firedog"] == ["dog"]
    assert found["pizza pie"] == ["pizza"]
    assert "chair" not in found
    assert "idea" not in found


def test_synonyms_are_found_in_brackets_and_plurals(wordnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wordnet / "synonyms.txt"
    monkeypatch.setattr(sys, "argv", ["corpus", str(wordnet), "--out", str(wordnet / "c"), "--synonyms", str(path)])
    assert main() == 0
    synonyms = read_synonyms(str(path))
    assert synonyms == wordnet_synonyms(wordnet)
    for phrase in ("pizza", "pizzas", "pizza (a dish)"):
        assert synonyms_of(phrase, synonyms) == ["pizza pie"]
    assert synonyms_of("chairs", synonyms) == []


def test_a_file_of_synonyms_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt"):
        read_synonyms(str(tmp_path / "none.txt"))
