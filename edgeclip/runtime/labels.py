"""The labels file: what the camera is asked to tell apart, one label a line, watched while it is edited.

    # a comment; after whitespace a '#' starts one too
    dog
    cardboard box / carton
    delivery: a person carrying a parcel | a van parked at the door

The first ': ' ends the name, ' | ' separates the label's own prompts. Everything else is part of the text.
"""

from __future__ import annotations

import codecs
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from edgeclip.errors import DataError, UsageError
from edgeclip.runtime.editedfile import EditedFile
from edgeclip.types import UNKNOWN, Label

YAML = (".yaml", ".yml")  # watches
MAX_LINE_CHARS = 512
MAX_LABELS = 10_000
MAX_FILE_BYTES = 16 << 20

_COMMENT = re.compile(r"(?:^|\s)#.*")
_NAME_END = re.compile(r":(?:\s+|$)")
_PROMPT_END = re.compile(r"(?:^|(?<=\s))\|(?=\s|$)")
_FORBIDDEN_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}  # controls, lone surrogates, line and paragraph separators
_BIDI_CONTROLS = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # these reorder a terminal's line
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BOM = "\ufeff"


def parse_labels(path: str | os.PathLike[str]) -> tuple[Label, ...]:
    """Read a labels file. Raises DataError naming file, line and fix; never returns an empty tuple."""
    return tuple(label for _, label in numbered_labels(path))


def numbered_labels(path: str | os.PathLike[str]) -> list[tuple[int, Label]]:
    """parse_labels() with the line of each label, from 1."""
    if Path(path).suffix.lower() in YAML:
        raise DataError(f"{path} is YAML, and a labels file holds one label a line", f"try --watch {path}")
    raw = _read(Path(path))
    labels: list[tuple[int, Label]] = []
    first_seen: dict[str, int] = {}
    for number, raw_line in enumerate(raw.split(b"\n"), 1):
        where = f"{path}:{number}"
        label = _parse_line(_decode(raw_line, where, first=number == 1), where)
        if label is None:
            continue
        if (before := first_seen.setdefault(folded(label.name), number)) != number:
            raise DataError(
                f"{where}: {_quoted(label.name)} is already the label of line {before}",
                "remove one of the two lines, or put both descriptions on one: 'label: prompt one | prompt two'",
            )
        labels.append((number, label))
        if len(labels) > MAX_LABELS:
            raise DataError(f"{where}: more than {MAX_LABELS} labels", "keep only the labels this camera can meet")
    if not labels:
        raise DataError(f"{path} holds no labels", "write one label a line, for example 'dog'")
    return labels


def labels_from_options(options: Iterable[str]) -> tuple[Label, ...]:
    """The labels of repeated --label options, each written as one line of a labels file. Raises UsageError."""
    labels: list[Label] = []
    seen: set[str] = set()
    for option in options:
        try:
            label = _parse_line(option, f"--label {_quoted(option)}", comments=False)
        except DataError as error:
            raise UsageError(error.message, error.hint) from error
        if label is None:
            raise UsageError("--label is empty", "write what to look for: --label 'a dog'")
        if folded(label.name) in seen:
            raise UsageError(f"--label {_quoted(label.name)} is given twice", "give each label once")
        seen.add(folded(label.name))
        labels.append(label)
    if not labels:
        raise UsageError("no labels", "write what to look for: --label 'a dog'")
    return tuple(labels)


def parse_label(text: str) -> Label:
    """One label, as it stands in a labels file. Raises UsageError."""
    try:
        label = _parse_line(text, f"label {_quoted(text)}", comments=False)
    except DataError as error:
        raise UsageError(error.message, error.hint) from error
    if label is None:
        raise UsageError("the label is empty", "write its name: 'a dog'")
    return label


class LabelFile(EditedFile[tuple[Label, ...]]):
    """A labels file and the last good content of it. Raises DataError where it is bad at first."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(lambda: parse_labels(path), path)

    @property
    def labels(self) -> tuple[Label, ...]:
        return self.content


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DataError(
            f"cannot read the labels file {path}: {error.strerror}", "check the path given to --labels"
        ) from error
    if len(raw) > MAX_FILE_BYTES:
        raise DataError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB", "this is not a labels file")
    return raw


def _decode(raw_line: bytes, where: str, *, first: bool) -> str:
    try:
        line = raw_line.decode("utf-8")
    except UnicodeDecodeError as error:
        if first and raw_line.startswith(_UTF16):
            raise DataError(
                f"{where}: this is UTF-16, as some editors save it", "save it with UTF-8 encoding"
            ) from error
        raise DataError(
            f"{where}: byte {error.start + 1} of the line is not UTF-8", "save the file with UTF-8 encoding"
        ) from error
    return (line.removeprefix(_BOM) if first else line).removesuffix("\r")


def _parse_line(line: str, where: str, *, comments: bool = True) -> Label | None:
    """One line as a label; None where it is blank or a comment. Raises DataError."""
    if len(line) > MAX_LINE_CHARS:
        raise DataError(
            f"{where}: {len(line)} characters, and at most {MAX_LINE_CHARS} are allowed",
            "shorten it: an encoder reads only the first few dozen words",
        )
    for column, character in enumerate(line, 1):
        if character != "\t" and is_forbidden(character):
            raise DataError(
                f"{where}: control character U+{ord(character):04X} at column {column}",
                "remove it; the file must be plain UTF-8 text",
            )
    text = " ".join((_COMMENT.sub("", line) if comments else line).split())
    if not text:
        return None
    end = _NAME_END.search(text)
    if end is None:
        refuse_reserved(text, where)
        return Label(text)
    name = text[: end.start()].strip()
    if not name:
        raise DataError(f"{where}: no label name before ':'", "write 'label: prompt one | prompt two'")
    refuse_reserved(name, where)
    prompts = tuple(prompt.strip() for prompt in _PROMPT_END.split(text[end.end() :]))
    if not all(prompts):
        raise DataError(
            f"{where}: label {_quoted(name)} has an empty prompt",
            "write 'label: prompt one | prompt two', or the label alone to have the bundle's prompts",
        )
    if len(set(prompts)) != len(prompts):
        raise DataError(f"{where}: label {_quoted(name)} has the same prompt twice", "remove one of them")
    return Label(name, prompts)


def refuse_reserved(name: str, where: str) -> None:
    """Raises DataError for a name that means something else in every answer."""
    if folded(name) == UNKNOWN:
        raise DataError(
            f"{where}: {_quoted(name)} is no label: it is what is said of a frame that shows none of them",
            f"keep the text under another name: 'something else: {name}'",
        )


def is_forbidden(character: str) -> bool:
    """Whether a character may not be in a text that is shown: controls, and what reorders a terminal's line."""
    return unicodedata.category(character) in _FORBIDDEN_CATEGORIES or character in _BIDI_CONTROLS or character == _BOM


def folded(name: str) -> str:
    """What two names must differ in."""
    return unicodedata.normalize("NFC", name).casefold()


def _quoted(text: str) -> str:
    """For a message: printable, and short enough for one line."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
