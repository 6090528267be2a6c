"""Edits of a good input that make a bad one: coverage-free, and the same for the same random.Random."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

Edit = Callable[[bytes, random.Random, Sequence[bytes]], bytes]

MAX_BYTES = 1 << 17
NUMBERS = (
    b"0 -0 -1 1 2 15 255 256 65536 4096 4097 2147483647 4294967296 9223372036854775807 18446744073709551616".split()
)
NUMBERS += (
    b"1e999 -1e999 1e-320 0.0 .nan .inf NaN Infinity 0x7f 0o17 1_000 1:30 99999999999999999999999999999999".split()
)
BYTES = (0, 1, 9, 10, 13, 32, 35, 38, 42, 45, 58, 91, 92, 123, 127, 128, 255)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


def flip(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def put_byte(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([chance.choice(BYTES)]) + data[at + 1 :]


def insert(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.randbytes(chance.randint(1, 24)) + data[at:]


def delete(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    begin, end = _span(data, chance)
    return data[:begin] + data[end:]


def repeat(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    begin, end = _span(data, chance)
    times = chance.choice((2, 2, 3, 10, 300))
    return data[:begin] + data[begin:end] * min(times, 1 + MAX_BYTES // max(1, end - begin)) + data[end:]


def move(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    begin, end = _span(data, chance)
    rest, at = data[:begin] + data[end:], chance.randrange(len(data))
    return rest[:at] + data[begin:end] + rest[at:]


def cut(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    return data[: chance.randrange(len(data))]


def splice(data: bytes, chance: random.Random, words: Sequence[bytes]) -> bytes:
    """A word, or a piece of another seed, over or between what is there."""
    piece, at = chance.choice(words), chance.randrange(len(data) + 1)
    if len(piece) > 64:
        begin, end = _span(piece, chance)
        piece = piece[begin:end]
    return data[:at] + piece + data[at + chance.choice((0, len(piece))) :]


def renumber(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    found = list(_NUMBER.finditer(data[: 1 << 14]))
    if not found:
        return flip(data, chance, _)
    match = chance.choice(found)
    return data[: match.start()] + chance.choice(NUMBERS) + data[match.end() :]


def swap_lines(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


BINARY: tuple[Edit, ...] = (flip, flip, put_byte, insert, delete, repeat, move, cut, splice)
TEXT: tuple[Edit, ...] = (*BINARY, renumber, renumber, splice, splice, swap_lines)


def mutated(seeds: Sequence[bytes], chance: random.Random, edits: Sequence[Edit], words: Sequence[bytes] = ()) -> bytes:
    """One to six edits of a seed. words: what belongs into such a file, to be put where it does not."""
    data, pieces = chance.choice(seeds), [*words, *seeds]
    for _ in range(min(chance.randint(1, 6), chance.randint(1, 6))):
        if data:
            data = chance.choice(edits)(data, chance, pieces)
    return data[:MAX_BYTES]


def _span(data: bytes, chance: random.Random) -> tuple[int, int]:
    begin = chance.randrange(len(data))
    return begin, min(len(data), begin + chance.choice((1, 2, 4, 16, 64, 512, len(data))))
