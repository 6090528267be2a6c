"""Models of a hub: downloaded once with resume, their digests recorded, and enforced from then on.

The first download follows the recipe's revision to a commit and writes a lock file: the commit and every file's
SHA-256. Later ones, on whatever machine has the lock file, take that commit and nothing else.
"""

from __future__ import annotations

import http.client
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import msgspec

from edgeclip.atomic import atomic_write
from edgeclip.build.checkpoints.place import Facts, Place
from edgeclip.bundle import sha256
from edgeclip.errors import ConfigError, DataError, EngineError
from edgeclip.progress import Progress

HUB = "https://huggingface.co"
HUB_VARIABLE = "EDGECLIP_HUB"
CACHE_VARIABLE = "EDGECLIP_CACHE"
LOCK_SUFFIX = ".lock.json"
BLOCK = 1 << 20
ATTEMPTS = 5
TIMEOUT_S = 30.0
COMMIT = "X-Repo-Commit"
FRESH, BEGUN = "fresh", ".commit"  # where a first download goes, and the commit that its files are of

Repository = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]
HubFile = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][\w.-]*$")]
Revision = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][\w.-]*$")]


class HubModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A checkpoint on a hub, as an engine recipe names it.

    files: what is downloaded, all into one directory, which the loader then reads. revision: a branch, tag or commit,
    followed once. facts: what the files do not say.
    """

    loader: Literal["open_clip", "openai", "huggingface", "onnx"]
    repository: Repository
    files: Annotated[tuple[HubFile, ...], msgspec.Meta(min_length=1)]
    licence: str
    revision: Revision = "main"
    architecture: str = ""
    facts: Facts = Facts()


class LockedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    bytes: int


class Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the first download found."""

    repository: str
    revision: str
    commit: Revision
    files: dict[str, LockedFile]


def fetch(name: str, model: HubModel, recipe: Path, progress: Progress) -> Place:
    """The model's files, from the cache or the hub, as a Place. recipe: the YAML that names it; its lock is beside it.

    Raises DataError for files that are not what the lock says, EngineError where the hub cannot be reached.
    """
    lock_path = lock_place(recipe)
    lock = read_lock(lock_path, model)
    place = cache_directory() / "models" / model.repository.replace("/", "--")
    folder = place / (lock.commit if lock else f"{FRESH}-{model.revision}")
    folder.mkdir(parents=True, exist_ok=True)
    # A first download that was stopped goes on at the commit it began with, wherever the branch is now.
    begun = folder / BEGUN
    found = {"commit": lock.commit if lock else begun.read_text() if begun.is_file() else ""}
    absent = [file for file in model.files if not is_there(folder / file, lock, file)]
    if absent:
        progress.stage("download", None)
        for file in absent:
            progress.note(f"{model.repository}/{file}")
            download(address(model, found["commit"] or model.revision, file), folder / file, progress, found)
            if lock is not None:
                require_digest(folder / file, lock.files[file], model)
            elif not begun.is_file():
                with atomic_write(begun) as stream:
                    stream.write(found["commit"].encode())
        progress.done()
    if lock is None:
        commit = found["commit"] or model.revision
        files = {file: LockedFile(sha256(folder / file), (folder / file).stat().st_size) for file in model.files}
        lock = Lock(model.repository, model.revision, commit, files)
        settled = folder.with_name(commit)
        settled.mkdir(exist_ok=True)
        with atomic_write(lock_path) as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(lock)) + b"\n")
        for file in model.files:
            os.replace(folder / file, settled / file)
        shutil.rmtree(folder, ignore_errors=True)
        folder = settled
        progress.note(f"digests recorded in {lock_path}")
    path = folder / model.files[0] if model.loader == "openai" or model.architecture else folder
    return Place(
        model.loader,
        str(path),
        name,
        architecture=model.architecture,
        origin=f"{model.repository} at {lock.commit}",
        licence=model.licence,
        facts=model.facts,
    )


def cache_directory() -> Path:
    """Where downloads are kept: EDGECLIP_CACHE, or the user's cache."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgeclip"


def lock_place(recipe: Path) -> Path:
    """Beside the recipe; in the cache where that cannot be written and holds none (an installed package)."""
    beside = recipe.with_name(recipe.stem + LOCK_SUFFIX)
    if beside.exists() or os.access(recipe.parent, os.W_OK):
        return beside
    return cache_directory() / "models" / beside.name


def read_lock(path: Path, model: HubModel) -> Lock | None:
    if not path.is_file():
        return None
    try:
        lock = msgspec.json.decode(path.read_bytes(), type=Lock)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}", "restore it from version control, or remove it to record anew") from error
    if (lock.repository, lock.revision, set(lock.files)) != (model.repository, model.revision, set(model.files)):
        raise ConfigError(
            f"{path} was recorded for {lock.repository} at {lock.revision}, and the recipe names other files",
            "remove the lock file to record the digests of what the recipe names now",
        )
    return lock


def is_there(path: Path, lock: Lock | None, file: str) -> bool:
    """Whether the file is in the cache, whole. One that is not what the lock says is removed, to be fetched again."""
    if not path.is_file():
        return False
    if lock is None:
        return True
    expected = lock.files[file]
    if path.stat().st_size == expected.bytes and sha256(path) == expected.sha256:
        return True
    path.unlink()
    return False


def require_digest(path: Path, expected: LockedFile, model: HubModel) -> None:
    found = sha256(path)
    if found != expected.sha256:
        path.unlink()
        raise DataError(
            f"{model.repository}/{path.name}: sha256 {found}, and {expected.sha256} was recorded",
            "the hub serves another file than when the model was first built: nothing was kept; compare before you "
            "remove the lock file",
        )


def address(model: HubModel, revision: str, file: str) -> str:
    hub = os.environ.get(HUB_VARIABLE, HUB).rstrip("/")
    return f"{hub}/{model.repository}/resolve/{urllib.parse.quote(revision)}/{urllib.parse.quote(file)}"


class Redirects(urllib.request.HTTPRedirectHandler):
    """A hub sends large files elsewhere, and says only in its own answer which commit they are of."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self.headers.setdefault(COMMIT, headers.get(COMMIT, ""))
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, path: Path, progress: Progress, found: dict[str, str]) -> None:
    """Fetch `url` to `path`, going on where an interrupted download stopped. found["commit"]: as the hub says it.

    Raises DataError where the hub has no such file, EngineError where it cannot be reached.
    """
    part = path.with_name(f".{path.name}.part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            transfer(url, part, progress, found)
            break
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and part.exists():  # the part is longer than the file: it is of another one
                part.unlink()
            elif error.code in (401, 403, 404):
                raise DataError(
                    f"{url}: the hub answers {error.code} {error.reason}",
                    "check repository, revision and files in the recipe; gated models must be downloaded by hand and "
                    "given as a directory",
                ) from error
            elif attempt == ATTEMPTS:
                raise unreachable(url, error) from error
        except (OSError, http.client.HTTPException) as error:
            if attempt == ATTEMPTS:
                raise unreachable(url, error) from error
            progress.note(f"interrupted ({error}), going on")
        time.sleep(pause_s(attempt))
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(part, path)
    tag_of(part).unlink(missing_ok=True)


def unreachable(url: str, error: Exception) -> EngineError:
    return EngineError(
        f"{url} cannot be downloaded: {error}",
        "run it again: it goes on where it stopped. Without a network, download the files elsewhere and give their "
        "directory as --model",
    )


def pause_s(attempt: int) -> float:
    return min(0.2 * 2.0**attempt, 10.0)


def tag_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def transfer(url: str, part: Path, progress: Progress, found: dict[str, str]) -> None:
    """One attempt: append what is missing of `part`, where the hub's file is still the one it was begun with."""
    tag_file = tag_of(part)
    have = part.stat().st_size if part.exists() else 0
    tag = tag_file.read_text() if tag_file.exists() else ""
    request = urllib.request.Request(url, headers={"User-Agent": "edgeclip"})
    if have and tag:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag)
    headers: dict[str, str] = {}
    opener = urllib.request.build_opener(Redirects(headers))
    with opener.open(request, timeout=TIMEOUT_S) as answer:
        commit = headers.get(COMMIT) or answer.headers.get(COMMIT, "")
        if commit and not found.get("commit"):
            found["commit"] = commit
        going_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        tag_file.write_text(answer.headers.get("ETag", ""))
        with part.open("ab" if going_on else "wb") as stream:
            copied = copy(answer, stream, lambda: progress.advance())
        expected = answer.headers.get("Content-Length")
        if expected is not None and copied != int(expected):
            raise http.client.IncompleteRead(b"", int(expected) - copied)


def copy(source: Any, target: IO[bytes], advance: Callable[[], None]) -> int:
    copied = 0
    while block := source.read(BLOCK):
        target.write(block)
        copied += len(block)
        advance()
    return copied
