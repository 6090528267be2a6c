"""Export: a checkpoint becomes float graphs, each shown to match torch. Runs exporter.py as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

import edgeclip
from edgeclip.build.checkpoints.place import Place
from edgeclip.bundle import Preprocess, Scoring
from edgeclip.errors import DataError, EdgeclipError
from edgeclip.progress import Progress

FACTS = "facts.json"
MINIMUM_COSINE = 0.9999
LOG_TAIL_LINES = 15


class Exported(msgspec.Struct, frozen=True):
    """What export leaves behind for every later stage, beside the graphs themselves.

    cosine: the lowest over the sample inputs, per graph, to torch; original: to the checkpoint's own library, where it
    has one. tokenizer: "" where the text side is a fixed bank (BANK, in the same directory). origin, licence: of the
    weights. notes: what the loader did to them.
    """

    name: str
    space: str
    dim: int
    preprocess: Preprocess
    scoring: Scoring
    templates: tuple[str, ...]
    cosine: dict[str, float]
    original: dict[str, float] = {}
    tokenizer: str = ""
    context_length: int = 0
    pad_id: int = 0
    origin: str = ""
    licence: str = ""
    notes: tuple[str, ...] = ()

    def provenance(self) -> tuple[str, ...]:
        """Lines for the report."""
        licence = f"Weights: {self.origin}; licence: {self.licence or 'not stated'}"
        return (licence, *self.notes)


def graphs_for(targets: tuple[str, ...], texts: bool) -> list[str]:
    """The Q/DQ ONNX of the image tower is always built: devices compile from it. texts: there is a text tower."""
    graphs = ["image.onnx"]
    if "tflite" in targets:
        graphs += ["image.tflite", "text.tflite"]
    if {"onnx", "tensorrt", "tensorrt-rtx"} & set(targets):
        graphs.append("text.onnx")
    return [graph for graph in graphs if texts or graph.startswith("image.")]


def export(place: Place, graphs: list[str], directory: Path, log: Path, progress: Progress) -> Exported:
    """Write the float graphs ("image.tflite", "text.onnx", ...) and facts.json to `directory`.

    Of an image tower with a fixed bank the bank, too. Raises DataError for a checkpoint that is
    not one and for a graph that does not match, EdgeclipError where a converter fails; its own words are in `log`.
    """
    facts: dict[str, Any] = {}
    cosine: dict[str, float] = {}
    original: dict[str, float] = {}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    root = str(Path(edgeclip.__file__).resolve().parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "edgeclip.build.exporter",
        msgspec.json.encode(place).decode(),
        str(directory),
        *graphs,
    ]
    with (
        log.open("w") as chatter,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=chatter, text=True, env=environment) as child,
    ):
        try:
            for text in child.stdout or ():
                line = json.loads(text)
                if "error" in line:
                    raise DataError(line["error"], line["hint"], line["exit_code"])
                if "facts" in line:
                    facts = line
                    for note in line["facts"]["notes"]:
                        progress.note(note)
                    continue
                check(line, directory / line["graph"])
                cosine[line["graph"]] = line["cosine"]
                if "original" in line:
                    original[line["graph"]] = line["original"]
                progress.advance()
        except BaseException:
            child.kill()  # or it would go on writing into a directory that is given up
            raise
        code = child.wait()
    if code != 0 or set(cosine) != set(graphs):
        raise EdgeclipError(f"export ended with status {code}: {tail(log)}", f"the whole log is {log}")
    exported = msgspec.convert(
        {**facts["facts"], "space": facts["space"], "cosine": cosine, "original": original}, Exported
    )
    (directory / FACTS).write_bytes(msgspec.json.format(msgspec.json.encode(exported)))
    return exported


def load_facts(directory: Path) -> Exported:
    return msgspec.json.decode((directory / FACTS).read_bytes(), type=Exported)


def check(line: dict[str, Any], path: Path) -> None:
    """A graph that exported into something else than torch computes goes no further."""
    if not line["cosine"] >= MINIMUM_COSINE:
        raise DataError(
            f"{path.name}: cosine to torch is {line['cosine']:.6f}, below {MINIMUM_COSINE}",
            "the exported graph computes something else; see the export log",
        )
    if not line.get("original", 1.0) >= MINIMUM_COSINE:
        raise DataError(
            f"{path.name}: cosine to the checkpoint's own library is {line['original']:.6f}, below {MINIMUM_COSINE}",
            "edgeclip reads this checkpoint otherwise than its library does: please report it with the model's name",
        )
    if path.suffix == ".onnx":
        from edgeclip.build.onnxgraph import check_native

        check_native(path, line["norms"])


def tail(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-LOG_TAIL_LINES:])
