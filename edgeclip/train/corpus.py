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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wordnet", type=Path, help="folder with data.noun and cntlist.rev")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=60000, help="phrases to keep (default %(default)s)")
    options = parser.parse_args()
    try:
        phrases = wordnet_phrases(options.wordnet, options.most)
    except EdgeclipError as error:
        print(f"error: {error.message}\n  fix: {error.hint}", file=sys.stderr)
        return error.exit_code
    with atomic_write(options.out, "w") as stream:
        stream.writelines(f"{phrase}\n" for phrase in phrases)
    return 0


if __name__ == "__main__":
    sys.exit(main())
