"""Labelled pictures, for evaluation, training and calibration, read one at a time and in a fixed order.

    shards     x.tar, x.tar.gz: N.webp (or .jpg, .png) and N.json {"texts": ["..."], "label": "..."} side by side
    folder     of shards, or of class folders (dog/1.jpg, delivery_van/a/2.png; '_' in a class name is a space)
    x.csv      a heading line with path and text (and label, if there is one); paths are relative to the file
    pattern    'data/train-*.tar.gz': any of the above, one after the other

Archives are read as streams and never unpacked.
"""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from edgeclip.archive import archived_files, is_archive
from edgeclip.errors import DataError
from edgeclip.picture import (
    MAX_PICTURE_BYTES,
    SUFFIXES,
    decode_picture,
    is_picture_name,
    is_utf8,
    name_of,
    picture_bytes,
)
from edgeclip.runtime.sources.pictures import natural
from edgeclip.types import Pixels

MAX_JSON_BYTES = 1 << 20
FORMS = "give .tar or .tar.gz shards, a folder of them, a folder of class folders, or a .csv with path and text"


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture with what is known of it.

    key: its name within the data set. where: file (and member), for messages. encoded: the picture file's bytes.
    texts: its captions, possibly none. label: its class, "" where it has none.
    """

    key: str
    where: str
    encoded: bytes
    texts: tuple[str, ...]
    label: str

    @property
    def pixels(self) -> Pixels:
        """[H, W, 3] uint8 BGR, upright, decoded anew at each call. Raises DataError naming the picture."""
        return decode_picture(self.encoded, self.where)


class _Facts(msgspec.Struct):
    """The .json beside a picture in a shard. What else it says (source, licence) is not looked at."""

    texts: tuple[str, ...] = ()
    label: str | None = None


def iter_samples(path: str | os.PathLike[str]) -> Iterator[Sample]:
    """The samples of a data set in one of the forms above.

    Raises DataError for a path that is none of them, holds no sample, or is damaged, naming file and member.
    """
    count = 0
    for part in _parts(Path(path)):
        for sample in _read(part):
            count += 1
            yield sample
    if not count:
        raise DataError(f"{path} holds no labelled pictures", FORMS)


def find_images(path: str | os.PathLike[str]) -> list[Path]:
    """Picture files: the one named, those anywhere in a folder, or those of a pattern; 2 comes before 10.

    Hidden files are left out. Raises DataError where there is none.
    """
    place = Path(path)
    if place.is_dir():
        inside = [item for item in place.rglob("*") if not _is_hidden(item.relative_to(place))]
    elif place.is_file():
        inside = [place]
    else:
        inside = [Path(name) for name in glob.glob(os.fspath(path), recursive=True)]
        if not inside:
            what = "matches no file" if glob.has_magic(os.fspath(path)) else "does not exist"
            raise DataError(f"{path} {what}", "check the path")
    found = [item for item in inside if is_picture_name(item.name) and item.is_file()]
    if not found:
        raise DataError(f"{path} holds no pictures", f"pictures are {' '.join(sorted(SUFFIXES))}")
    return sorted(found, key=natural)


def _parts(path: Path) -> list[Path]:
    """The files and class folders that make up a data set."""
    if path.is_dir():
        entries = sorted((item for item in path.iterdir() if not item.name.startswith(".")), key=natural)
        shards = [item for item in entries if is_archive(item)]
        folders = [item for item in entries if item.is_dir()]
        if shards and folders:
            raise DataError(f"{path} holds both shards and folders", "keep one kind of data in a folder")
        if not shards and not folders and any(is_picture_name(item.name) for item in entries):
            raise DataError(f"{path} holds pictures without a class", "move them into one folder for each class")
        return shards or folders
    if path.exists():
        return [path]
    matches = sorted((Path(name) for name in glob.glob(str(path), recursive=True)), key=natural)
    if not matches:
        raise DataError(f"{path} does not exist", FORMS)
    return [part for match in matches for part in (_parts(match) if match.is_dir() else [match])]


def _read(part: Path) -> Iterator[Sample]:
    if part.is_dir():
        return _read_class(part)
    if is_archive(part):
        return _read_shard(part)
    if part.suffix.lower() == ".csv":
        return _read_csv(part)
    raise DataError(f"{part} is not a data set", FORMS)


def _read_class(folder: Path) -> Iterator[Sample]:
    if not is_utf8(folder):
        raise DataError(f"{name_of(folder)} is not UTF-8, and its name is a label", "rename the folder")
    label = folder.name.replace("_", " ").strip()
    for path in find_images(folder):
        where = name_of(path)
        key = f"{folder.name}/{name_of(path.relative_to(folder))}"
        yield Sample(key, where, picture_bytes(path, where), (), label)


def _read_csv(path: Path) -> Iterator[Sample]:
    texts: dict[str, list[str]] = {}
    labels: dict[str, str] = {}
    first_line: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True, skipinitialspace=True)
            columns = reader.fieldnames or []
            if not {"path"} <= set(columns) or not {"text", "label"} & set(columns):
                raise DataError(f"{path}:1: no heading with path and text", "make its first line: path,text")
            for row in reader:
                name, text = row.get("path"), row.get("text") or ""
                if not name or None in row:
                    fault = "more values than columns" if name else "no path"
                    raise DataError(f"{path}:{reader.line_num}: {fault}", 'put texts that hold commas in "quotes"')
                first_line.setdefault(name, reader.line_num)
                texts.setdefault(name, []).extend([text.strip()] if text.strip() else [])
                labels[name] = (row.get("label") or "").strip() or labels.get(name, "")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error.reason}", "save it with UTF-8 encoding") from error
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}", "mend the quotes on this line") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "check the path") from error
    for name, captions in texts.items():
        where = f"{path}:{first_line[name]}: {name}"
        yield Sample(name, where, picture_bytes(path.parent / name, where), tuple(captions), labels[name])


def _read_shard(shard: Path) -> Iterator[Sample]:
    """Pairs of neighbours in the archive: a picture and its .json, in either order."""
    key = ""
    picture: tuple[str, bytes] | None = None
    facts: _Facts | None = None
    for stored, data in archived_files(shard, _limit_bytes):
        name = name_of(Path(stored))
        stem = str(PurePosixPath(name).with_suffix(""))
        if stem != key:
            _check_paired(shard, key, picture, facts)
            key, picture, facts = stem, None, None
        if name.lower().endswith(".json"):
            facts = _facts(data, f"{shard}: {name}")
        elif picture is not None:
            raise DataError(f"{shard}: {key} has two pictures", "keep one picture for each .json")
        else:
            picture = (name, data)
        if picture is not None and facts is not None:
            texts = tuple(text.strip() for text in facts.texts if text.strip())
            yield Sample(key, f"{shard}: {picture[0]}", picture[1], texts, (facts.label or "").strip())
            key, picture, facts = "", None, None
    _check_paired(shard, key, picture, facts)


def _check_paired(shard: Path, key: str, picture: tuple[str, bytes] | None, facts: _Facts | None) -> None:
    if picture is not None or facts is not None:
        lacking = ".json" if facts is None else "picture"
        raise DataError(
            f"{shard}: {key} has no {lacking} beside it", "write each picture and its .json one after the other"
        )


def _limit_bytes(name: str) -> int:
    """How large a file of a shard may be: pictures and .json are read, others are passed over."""
    base = PurePosixPath(name).name
    if base.lower().endswith(".json"):
        return 0 if base.startswith(".") else MAX_JSON_BYTES
    return MAX_PICTURE_BYTES if is_picture_name(base) else 0


def _facts(data: bytes, where: str) -> _Facts:
    try:
        return msgspec.json.decode(data, type=_Facts)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: {error}", 'write {"texts": ["..."], "label": "..."}') from error


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)
