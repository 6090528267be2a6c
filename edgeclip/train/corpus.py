"""Phrases for the text tower to learn the text teacher's geometry from: the names of visible things in WordNet.

python -m edgeclip.train.corpus /usr/share/wordnet --out corpus.txt     # Debian: apt-get install wordnet-base
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgeclip.atomic import atomic_write
from edgeclip.errors import DataError, EdgeclipError

# WordNet lexicographer files that hold things a camera can see: act, animal, artifact, body, food, location,
# object, person, phenomenon, plant, substance.
VISIBLE = {4, 5, 6, 8, 13, 15, 17, 18, 19, 20, 27}


def wordnet_phrases(directory: Path, most: int) -> list[str]:
    """Noun lemmas of visible synsets: those counted in WordNet's sense-tagged texts first, then shorter ones."""
    source, counted = directory / "data.noun", directory / "cntlist.rev"
    for path in (source, counted):
        if not path.is_file():
            raise DataError(f"{path} does not exist", "apt-get install wordnet-base, or name the folder of WordNet 3.0")
    counts: dict[str, int] = {}
    for line in counted.read_text(encoding="ascii").splitlines():
        sense, _, count = line.split()
        lemma, rest = sense.split("%")
        if rest[0] == "1":
            counts[lemma] = counts.get(lemma, 0) + int(count)
    phrases: dict[str, tuple[int, int]] = {}
    for line in source.read_text(encoding="ascii").splitlines():
        if line.startswith("  "):  # the licence at the top
            continue
        fields = line.split("|")[0].split()
        if int(fields[1]) not in VISIBLE:
            continue
        for lemma in fields[4 : 4 + 2 * int(fields[3], 16) : 2]:
            phrase = lemma.replace("_", " ")
            if phrase[0].isupper() or len(phrase) > 32 or phrase.count(" ") > 2 or any(c.isdigit() for c in phrase):
                continue
            phrases[phrase] = (-counts.get(lemma.lower(), 0), len(phrase))
    return sorted(phrases, key=lambda phrase: (phrases[phrase], phrase))[:most]


def wordnet_synonyms(directory: Path) -> dict[str, list[str]]:
    """phrase -> the other words of its commonest visible sense, for every noun that has any. All lower-cased."""
    commonest: dict[str, tuple[int, list[str]]] = {}
    counts: dict[str, int] = {}
    for line in (directory / "cntlist.rev").read_text(encoding="ascii").splitlines():
        sense, _, count = line.split()
        counts[sense] = int(count)
    for line in (directory / "data.noun").read_text(encoding="ascii").splitlines():
        if line.startswith("  "):  # the licence at the top
            continue
        fields = line.split("|")[0].split()
        if int(fields[1]) not in VISIBLE:
            continue
        stop = 4 + 2 * int(fields[3], 16)
        words = [lemma.replace("_", " ").lower() for lemma in fields[4:stop:2]]
        for word, number in zip(words, fields[5:stop:2], strict=True):
            sense = f"{word.replace(' ', '_')}%1:{int(fields[1]):02d}:{int(number, 16):02d}::"
            seen = counts.get(sense, 0)
            if word not in commonest or seen > commonest[word][0]:
                commonest[word] = (seen, [other for other in words if other != word])
    return {word: others for word, (_, others) in sorted(commonest.items()) if others}


def read_synonyms(path: str) -> dict[str, list[str]]:
    """The file that `--synonyms` writes: a phrase and its synonyms in a line, tabs between. Raises DataError."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}", "write it with python -m edgeclip.train.corpus") from error
    return {first: rest for first, *rest in (line.split("\t") for line in lines if line)}


def synonyms_of(phrase: str, synonyms: dict[str, list[str]]) -> list[str]:
    """A class phrase's synonyms; what is in brackets, and a plural's s, may be left out to find them."""
    bare = phrase.split(" (")[0]
    for form in (phrase, bare, bare.removesuffix("s")):
        if form in synonyms:
            return synonyms[form]
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wordnet", type=Path, help="folder with data.noun and cntlist.rev")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=60000, help="phrases to keep (default %(default)s)")
    parser.add_argument("--synonyms", type=Path, help="write every phrase's synonyms here too")
    options = parser.parse_args()
    try:
        phrases = wordnet_phrases(options.wordnet, options.most)
        if options.synonyms:
            with atomic_write(options.synonyms, "w") as stream:
                for phrase, others in wordnet_synonyms(options.wordnet).items():
                    stream.write("\t".join([phrase, *others]) + "\n")
    except EdgeclipError as error:
        print(f"error: {error.message}\n  fix: {error.hint}", file=sys.stderr)
        return error.exit_code
    with atomic_write(options.out, "w") as stream:
        stream.writelines(f"{phrase}\n" for phrase in phrases)
    return 0


if __name__ == "__main__":
    sys.exit(main())
