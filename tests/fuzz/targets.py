"""What is fuzzed: every reader of a file that comes from outside the device."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from hostile import archive, summed

from edgeclip.bundle import Bundle, read_manifest
from edgeclip.config import load_config
from edgeclip.install import Policy, install
from edgeclip.picture import decode_picture
from edgeclip.runtime.frames import frames_file, load_frames
from edgeclip.runtime.golden import load_golden
from edgeclip.runtime.labels import parse_labels
from edgeclip.runtime.sources.pictures import is_picture
from edgeclip.runtime.sources.video import VideoFile
from edgeclip.runtime.thresholds import read_thresholds
from edgeclip.runtime.tokenizer import load_tokenizer
from edgeclip.runtime.watches import load_watches
from edgeclip.selftest import Passed
from edgeclip.store import Store
from fuzz import mutation
from fuzz import seeds as made

MAX_FRAMES = 12
TEXT_TO_ENCODE = "A photo of two caf\u00e9 cats, 12\u732b!"
OTHER_ARCHIVES = 400  # accepted, so unpacked and fsynced: one in so many


class Target:
    """file: the input is there under this name when run() is called. state: where the code under test may write.

    seeds, edits, words: what mutation makes inputs of.
    """

    file = "input"
    edits: Sequence[mutation.Edit] = mutation.TEXT
    words: Sequence[bytes] = ()

    def __init__(self, state: Path) -> None:
        self.state = state

    @cached_property
    def seeds(self) -> list[bytes]:
        raise NotImplementedError

    def run(self, path: Path, data: bytes) -> None:
        """Raises EdgeclipError where the input is refused."""
        raise NotImplementedError

    def mutated(self, chance: random.Random) -> bytes:
        return mutation.mutated(self.seeds, chance, self.edits, self.words)


class Labels(Target):
    file = "labels.txt"
    seeds = made.LABELS
    words = made.LABEL_WORDS

    def run(self, path: Path, data: bytes) -> None:
        assert parse_labels(path)


class Config(Target):
    file = "edgeclip.yaml"
    seeds = made.CONFIG
    words = (*made.YAML_WORDS, *(f"{name}: ".encode() for name in ("source", "sink", "fps", "threads", "labels")))

    def run(self, path: Path, data: bytes) -> None:
        load_config({}, {}, str(path))


class Watches(Target):
    file = "watches.yaml"
    seeds = made.WATCHES
    words = (*made.YAML_WORDS, *(f"{name}: ".encode() for name in ("name", "prompts", "region", "enter", "unknown")))

    def run(self, path: Path, data: bytes) -> None:
        for watch in (found := load_watches(path)).watches:
            found.digest(watch)
            assert watch.region is None or watch.region.outline


class Json(Target):
    words = (b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b'"\\ud800"', b'"', b"[" * 5000, b'{"a":' * 3000)


class Manifest(Json):
    @cached_property
    def seeds(self) -> list[bytes]:
        facts = made.tiny_files()["manifest.json"]
        return [facts, json.dumps(json.loads(facts), indent=1).encode()]

    def run(self, path: Path, data: bytes) -> None:
        read_manifest(data, "manifest.json")


class Thresholds(Json):
    file = "watches.thresholds.json"
    seeds = made.THRESHOLDS

    def run(self, path: Path, data: bytes) -> None:
        read_thresholds(path)


class Tokenizer(Json):
    file = "tokenizer.json"

    @cached_property
    def seeds(self) -> list[bytes]:
        models: list[Any] = []
        word = {"type": "WordPiece", "vocab": {"[UNK]": 0, "a": 1, "cat": 2, "##s": 3}, "unk_token": "[UNK]"}
        models.append({"version": "1.0", "model": word, "normalizer": {"type": "BertNormalizer"}})
        pairs = {"type": "BPE", "vocab": {"c": 0, "a": 1, "t": 2, "ca": 3, "cat": 4}, "merges": ["c a", "ca t"]}
        models.append({"version": "1.0", "model": pairs, "pre_tokenizer": {"type": "ByteLevel"}})
        pieces = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["\u2581a", -2.0], ["cat", -3.5]]}
        models.append({"version": "1.0", "model": pieces, "padding": {"direction": "Left"}})
        return [made.tiny_files()["tokenizer.json"], *(json.dumps(facts).encode() for facts in models)]

    def run(self, path: Path, data: bytes) -> None:
        load_tokenizer(path).encode_batch([TEXT_TO_ENCODE, ""], 16, 0)


class Golden(Target):
    file = "golden.npz"
    edits = mutation.BINARY

    @cached_property
    def _files(self) -> dict[str, bytes]:
        return made.tiny_files()

    @cached_property
    def seeds(self) -> list[bytes]:
        return [self._files["golden.npz"]]

    @cached_property
    def _manifest(self) -> Any:
        return read_manifest(self._files["manifest.json"], "manifest.json")

    def run(self, path: Path, data: bytes) -> None:
        load_golden(Bundle(path.parent, str(path.parent), self._manifest))


class Frames(Target):
    file = "frames.npz"
    edits = mutation.BINARY

    @cached_property
    def seeds(self) -> list[bytes]:
        rows = np.random.default_rng(0).normal(size=(32, self._manifest.dim)).astype(np.float32)
        return [frames_file(rows)]

    @cached_property
    def _manifest(self) -> Any:
        facts = json.loads(made.tiny_files()["manifest.json"])
        return read_manifest(json.dumps({**facts, "frames": self.file}).encode(), "manifest.json")

    def run(self, path: Path, data: bytes) -> None:
        load_frames(Bundle(path.parent, str(path.parent), self._manifest))


class Archive(Target):
    """Bytes of the archive; or of a file in it, and SHA256SUMS is made to fit, so that what is behind it is reached."""

    file = "bundle.tar"

    @cached_property
    def _files(self) -> dict[str, bytes]:
        return made.tiny_files()

    @cached_property
    def seeds(self) -> list[bytes]:
        return made.archives(self._files)

    def mutated(self, chance: random.Random) -> bytes:
        if chance.random() < 0.5:
            return mutation.mutated(self.seeds, chance, self.edits, self.words)
        files = dict(self._files)
        name = chance.choice(sorted(files))
        edits = self.edits if name.endswith((".json", "SUMS")) else mutation.BINARY
        if chance.randrange(OTHER_ARCHIVES) and not name.endswith((".json", "SUMS")):
            name = "manifest.json"  # any content is as good as another in the rest
        files[name] = mutation.mutated([files[name]], chance, edits)
        return archive(files if name == "SHA256SUMS" else summed(files))

    def run(self, path: Path, data: bytes) -> None:
        store = Store(self.state / "bundles")
        install(path, store, Policy(self.state / "keys", new_space=True), lambda fresh: Passed("none", 0, 1.0))


class Picture(Target):
    edits = mutation.BINARY

    @cached_property
    def seeds(self) -> list[bytes]:
        return made.pictures()

    def mutated(self, chance: random.Random) -> bytes:
        data = super().mutated(chance)
        return made.png_with_sums(data) if data.startswith(b"\x89PNG") and chance.random() < 0.8 else data

    def run(self, path: Path, data: bytes) -> None:
        pixels = decode_picture(data, path.name)
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3


class Film(Target):
    """In MP4, or bare as a camera streams it."""

    file = "clip.mp4"
    edits = mutation.BINARY
    words = made.PLAYLISTS

    @cached_property
    def seeds(self) -> list[bytes]:
        films = made.films()
        return [*films * 4, *made.PLAYLISTS]

    def run(self, path: Path, data: bytes) -> None:
        is_picture(path)
        film = VideoFile(str(path))
        try:
            film.open()
            for _ in range(MAX_FRAMES):
                if film.read() is None:
                    break
        finally:
            film.close()


TARGETS: dict[str, type[Target]] = {
    "manifest": Manifest,
    "archive": Archive,
    "config": Config,
    "labels": Labels,
    "watches": Watches,
    "picture": Picture,
    "film": Film,
    "tokenizer": Tokenizer,
    "golden": Golden,
    "frames": Frames,
    "thresholds": Thresholds,
}
