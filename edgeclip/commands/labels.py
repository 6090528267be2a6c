"""`edgeclip labels`: check, list or embed a file of labels or watches."""

from __future__ import annotations

import functools
import sys
from typing import Any

from edgeclip.commands.arguments import THREADS_HELP, add_bundle_option, add_command, at_least_one, usual_bundle
from edgeclip.commands.terminal import print_json
from edgeclip.errors import OK


def add_labels(commands: Any) -> None:
    group = commands.add_parser("labels", help="check, list or embed a label file", description="Label files.")
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    check = add_command(
        actions,
        "labels check",
        _labels_check,
        "say whether a labels or watches file is well, and what in it a model can hardly tell apart",
        "Reads labels.txt or watches.yaml and compares its sentences by the model's own text embeddings. Exit code 0 "
        "also where some are nearly the same, 65 where the file cannot be read.",
    )
    listed = add_command(actions, "labels list", _labels_list, "print the labels, with their own prompts")
    embed = add_command(actions, "labels embed", _labels_embed, "compute text embeddings now, so that `run` need not")
    for parser in (check, listed, embed):
        parser.add_argument("file", metavar="FILE", help="labels, one a line, or a watches.yaml")
    add_bundle_option(check)
    check.add_argument("--json", action="store_true", help="one JSON object: counts, collisions, taught labels")
    listed.add_argument("--json", action="store_true", help="one JSON object: label to prompts")
    add_bundle_option(embed)
    embed.add_argument("--threads", type=at_least_one, metavar="N", help=THREADS_HELP)


def _labels_check(file: str, bundle: str | None = None, json: bool = False) -> int:
    from dataclasses import asdict

    from edgeclip.bundle import open_bundle
    from edgeclip.collisions import check_file
    from edgeclip.runtime.shots import read_shots, shots_path
    from edgeclip.state import state_path

    opened = open_bundle(bundle or usual_bundle())
    space, dim = opened.manifest.space, opened.manifest.dim
    found = check_file(file, opened, shots=read_shots(shots_path(state_path(), space), space, dim).shots)
    if json:
        print_json(asdict(found))
        return OK
    counts = [f"{found.labels} labels"] * bool(found.labels) + [f"{found.watches} watches"] * bool(found.watches)
    print(f"{file}: {' and '.join(counts)}, {'but' if found.collisions or found.foreign else 'all well'}")
    for pair in found.collisions:
        print(
            f"  lines {pair.first_line} and {pair.second_line}: {pair.first!r} and {pair.second!r} are nearly the same "
            f"sentence to {found.bundle}: {pair.similarity:.2f}. {pair.so}"
        )
    for name in found.foreign:
        print(f"  {found.bundle} knows no word of {name!r}: give it a prompt in words that it was trained with")
    for name, count in found.taught.items():
        print(f"  {name!r} was taught with {count} shots in use")
    for name, count in found.taught_elsewhere.items():
        print(f"  {name!r} was taught ({count} shots), and no line names it: to use them, add it to {file}")
    return OK


def _labels_list(file: str, json: bool = False) -> int:
    from edgeclip.collisions import sentences_of

    labels = [sentence.label for sentence in sentences_of(file) if sentence.kind != "negative"]
    if json:
        print_json({label.name: list(label.prompts) for label in labels})
    else:
        for label in labels:
            print(f"{label.name}: {' | '.join(label.prompts)}" if label.prompts else label.name)
    return OK


def _labels_embed(file: str, bundle: str | None = None, threads: int | None = None) -> int:
    from edgeclip.bundle import open_bundle
    from edgeclip.collisions import sentences_of
    from edgeclip.progress import progress_for
    from edgeclip.runtime.background import load_background
    from edgeclip.runtime.labelbank import load_bank

    opened, labels = open_bundle(bundle or usual_bundle()), [sentence.label for sentence in sentences_of(file)]
    with progress_for(sys.stderr) as progress:
        progress.stage(f"embedding {file}", len(labels))
        bank = load_bank(opened, labels, threads=threads, notices=progress.note)
        progress.advance(len(labels))
        load_background(opened, functools.partial(load_bank, opened, threads=threads))
    print(f"{len(bank.names)} labels are embedded for {opened.manifest.name} (space {bank.space.split(':')[-1][:12]})")
    return OK
