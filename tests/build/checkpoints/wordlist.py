"""Lines in many scripts to tokenize: real words and seeded text of many blocks, mixed case, with marks and emoji."""

from __future__ import annotations

import random
import sys
import unicodedata

from saved import CORPUS

from edgeclip.build.checkpoints.sentences import SENTENCES

BLOCKS = (
    (0x20, 0x7F), (0xA0, 0x250), (0x250, 0x2B0), (0x2B0, 0x370), (0x370, 0x400), (0x400, 0x530), (0x530, 0x590),
    (0x590, 0x600), (0x600, 0x700), (0x900, 0xA00), (0xA00, 0xB80), (0xB80, 0xE00), (0xE00, 0xF00), (0xF00, 0x1000),
    (0x1000, 0x10A0), (0x10A0, 0x1100), (0x1100, 0x1200), (0x1200, 0x1400), (0x1780, 0x1800), (0x1E00, 0x2000),
    (0x2000, 0x2070), (0x2070, 0x2150), (0x2150, 0x2300), (0x2460, 0x2500), (0x2600, 0x27C0), (0x3000, 0x3100),
    (0x3100, 0x3200), (0x3200, 0x3400), (0x4E00, 0x5200), (0xAC00, 0xAF00), (0xF900, 0xFB00), (0xFB00, 0xFB50),
    (0xFB50, 0xFE00), (0xFE30, 0xFE70), (0xFF00, 0xFFF0), (0x1D400, 0x1D800), (0x1F1E6, 0x1F200), (0x1F300, 0x1F650),
)  # fmt: skip
JOINED = (
    "\u0301",
    "\u0308",
    "\u200d",
    "\ufe0f",
    "'s",
    "'LL",
    "-",
    " ",
    "  ",
    "\u3000",
    "_",
    "!?",
    "...",
    "&amp;",
    "\u2019s",
)


def lines(count: int, seed: int = 0) -> list[str]:
    """`count` lines; characters that this Python's Unicode tables do not know are left out."""
    chance = random.Random(seed)
    words = [word for sentence in (*SENTENCES, *CORPUS.splitlines()) for word in sentence.split()]
    known = [[chr(c) for c in range(*block) if unicodedata.category(chr(c)) not in ("Cn", "Cs")] for block in BLOCKS]
    made: list[str] = [*SENTENCES, *CORPUS.splitlines()]
    while len(made) < count:
        parts: list[str] = []
        for _ in range(chance.randint(1, 6)):
            if chance.random() < 0.5:
                part = chance.choice(words)
            else:
                block = chance.choice(known)
                part = "".join(chance.choice(block) for _ in range(chance.randint(1, 8)))
            parts.append(chance.choice((str, str.upper, str.title, str.lower))(part))
            parts.append(chance.choice((" ", " ", " ", *JOINED)))
        made.append("".join(parts)[: chance.choice((400, 400, 20))])
    return made[:count]


if __name__ == "__main__":
    print("\n".join(lines(int(sys.argv[1]))))
