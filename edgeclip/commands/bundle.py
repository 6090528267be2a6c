"""`edgeclip inspect` and `bundle`: what a bundle holds, and bundles over the air."""

from __future__ import annotations

import argparse
import functools
from typing import Any

from edgeclip.commands.arguments import BUNDLE_HELP, add_command, at_least_one, positive, usual_bundle
from edgeclip.commands.terminal import complain, print_json
from edgeclip.errors import BAD_DATA, OK


def add_inspect(commands: Any) -> None:
    parser = add_command(commands, "inspect", _inspect, "check a bundle and say what it holds")
    parser.add_argument("bundle", nargs="?", metavar="BUNDLE", help=BUNDLE_HELP)
    parser.add_argument("--json", action="store_true", help="manifest, files and report as one JSON object")
    parser.add_argument(
        "--edgetpu-compatible",
        action="store_true",
        help="name every operator of the TFLite image engine that a Coral Edge TPU leaves to the CPU; exit code 65 "
        "where one of them is in the way",
    )


def _inspect(bundle: str | None = None, json: bool = False, edgetpu_compatible: bool = False) -> int:
    from edgeclip.bundle import open_bundle
    from edgeclip.describe import describe, packed_name

    opened = open_bundle(bundle or usual_bundle())
    if edgetpu_compatible:
        return _inspect_for_edgetpu(opened, json)
    facts = describe(opened)
    if json:
        print_json(facts)
        return OK
    preprocess, scoring, text = facts["preprocess"], facts["scoring"], facts["text"]
    height, width = preprocess["size"]
    print(f"{facts['name']}  {facts['origin']}, built {facts['created']}")
    print(f"  {facts['checked']}, {facts['bytes'] / 1e6:.1f} MB, {facts['golden']['frames']} golden frames")
    print(f"  space {facts['space']}, {facts['dim']} dimensions, scored by {scoring['kind']} x {scoring['scale']:.4g}")
    print(f"  pictures {width} x {height}, {preprocess['resize']}, {preprocess['interpolation']}")
    if "names" in text:
        print(f"  {len(text['names'])} texts in {text['bank']}, and no others")
    else:
        print(f"  text {text['context_length']} tokens, {len(text['templates'])} templates")
    print(f"  calibrated on {facts['calibration']['frames']} frames, {facts['calibration']['digest'][:19]}")
    if facts["frames"] is not None:
        print(f"  embeddings of {facts['frames']['frames']} frames, which taught labels are told from")
    for engine in facts["engines"]:
        size_mb, target = engine["bytes"] / 1e6, " ".join(value for value in engine["target"].values() if value)
        print(f"  {engine['role']:<6}{engine['file']}: {engine['precision']}, {size_mb:.1f} MB, for {target}")
    for candidate in (facts["report"] or {}).get("images", []):
        if candidate.get("kept"):
            centred = candidate["distance"]["centred"]["mean"]
            top1 = f", top-1 {candidate['top1']:.1f} %" if candidate.get("top1") is not None else ""
            name = packed_name(candidate["file"], candidate["precision"])
            print(f"  verified {name}, {candidate['precision']}: mean-centred cosine to float {centred:.4f}{top1}")
    return OK


def _inspect_for_edgetpu(bundle: Any, json: bool) -> int:
    from msgspec import to_builtins

    from edgeclip.edgetpu import examine_bundle, require_compatible

    findings = examine_bundle(bundle)
    if json:
        print_json({"compatible": findings.compatible, **to_builtins(findings)})
        return OK if findings.compatible else BAD_DATA
    require_compatible(findings)
    print("\n".join(findings.lines()))
    return OK


def add_bundle(commands: Any) -> None:
    group = commands.add_parser(
        "bundle",
        help="install bundles over the air, sign them, go back to the one before",
        description="Bundles over the air (docs/ota.md). `edgeclip run --bundle current` runs the one in force.",
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    install = add_command(
        actions,
        "bundle install",
        _bundle_install,
        "check a bundle, test it on this device, and put it in force, on probation",
        "Exit code 65 where it is refused: nothing is written then, and the bundle in force stays. 69 where the disk "
        "is too small or another installation goes on, 78 where keys are missing.",
    )

    def add(action: str, help: str) -> argparse.ArgumentParser:
        return add_command(actions, f"bundle {action}", functools.partial(_bundle, action), help)

    listed = add("list", "say what is installed, what is in force, and what was rolled back and why")
    verify = add("verify", "check a bundle and its signatures; nothing is run or written")
    rollback = add("rollback", "put the bundle before in force again")
    confirm = add("confirm", "trust the bundle in force from now on: end its probation")
    remove = add("remove", "remove a bundle that is not in force")
    export = add("export", "write a bundle as one .tar, or a directory")
    sign = add("sign", "add an Ed25519 signature")
    keygen = add("keygen", "make a key to sign with")
    install.add_argument("bundle", nargs="+", metavar="BUNDLE", help="bundle, directory or .tar")
    verify.add_argument(
        "bundle", nargs="?", metavar="BUNDLE", help="directory, .tar, or name in the store (default: current)"
    )
    rollback.add_argument(
        "--from", dest="left", metavar="NAME", help="only where NAME is in force, so that asking twice does no harm"
    )
    sign.add_argument("bundle", nargs="+", metavar="BUNDLE", help="bundle, directory or .tar")
    export.add_argument("bundle", nargs="?", metavar="BUNDLE", help="of the store, or a path (default: current)")
    remove.add_argument("name", nargs="+", metavar="NAME", help="as `edgeclip bundle list` names it")
    _add_frames(actions)
    for parser in (install, verify):
        parser.add_argument(
            "--keys", metavar="DIR", help="public keys that are trusted (default: /etc/edgeclip/keys.d)"
        )
        parser.add_argument("--require-signature", action="store_true", help="refuse what no trusted key has signed")
        parser.add_argument(
            "--config", metavar="FILE", help="settings (default: /etc/edgeclip/edgeclip.yaml, if there)"
        )
    install.add_argument("--new-space", action="store_true", help="also of another embedding space than the one before")
    install.add_argument("--test-timeout", type=positive, metavar="S", help="of the self-test (default: 120)")
    install.add_argument("--test-memory", type=at_least_one, metavar="MB", help="of the self-test (default: 2048)")
    export.add_argument("--out", required=True, metavar="FILE.tar", help="where it goes")
    sign.add_argument("--key", required=True, metavar="FILE.pem", help="private Ed25519 key")
    keygen.add_argument("--out", required=True, metavar="FILE.pem", help="the private key; NAME.pub.pem goes beside it")
    for parser in (install, listed, verify, rollback, confirm, remove, export):
        parser.add_argument(
            "--store", metavar="DIR", help="where bundles are installed (default: the state directory's)"
        )
    for parser in (install, listed, verify, rollback, confirm, remove, export, sign, keygen):
        parser.add_argument("--json", action="store_true", help="the outcome as JSON")


def _add_frames(actions: Any) -> None:
    frames = add_command(
        actions,
        "bundle frames",
        _bundle_frames,
        "give a bundle the embeddings of pictures that taught labels are told from",
        "The bundle's own engine embeds them. `edgeclip build` does this by itself, with the frames it calibrates on. "
        "Signatures of the bundle go: sign it again. docs/teach.md says what it is for.",
    )
    frames.add_argument("bundle", metavar="BUNDLE", help="bundle, directory or .tar")
    frames.add_argument(
        "--calibration", required=True, metavar="PATH", help="folder, pattern, shards or film of what is to be seen"
    )
    frames.add_argument("--frames", type=at_least_one, metavar="N", help="of at most so many (default: 512)")
    frames.add_argument("--out", metavar="DIR", help="write the bundle there instead, a directory or .tar")
    frames.add_argument("--json", action="store_true", help="the outcome as one JSON object")


def _bundle_frames(
    bundle: str, calibration: str, frames: int | None = None, out: str | None = None, json: bool = False
) -> int:
    import sys
    from pathlib import Path

    from edgeclip.build.carry import add_frames
    from edgeclip.bundle import open_bundle
    from edgeclip.progress import progress_for

    with progress_for(sys.stderr) as progress:
        done = add_frames(open_bundle(bundle), calibration, frames, Path(out) if out else None, progress)
    if json:
        print_json({"bundle": str(done.bundle), "frames": done.frames, "bytes": done.bytes, "changed": done.changed})
    else:
        state = "written" if done.changed else "was up to date"
        print(f"{done.bundle}: {state}, with {done.frames} frames' embeddings ({done.bytes / 1e6:.2f} MB)")
    return OK


def _bundle(action: str, json: bool = False, **options: Any) -> int:
    from edgeclip.bundles import ACTIONS

    facts, lines = ACTIONS[action](**options)
    if json:
        print_json(facts)
    else:
        print(*lines, sep="\n")
    return OK


def _bundle_install(json: bool = False, **options: Any) -> int:
    from edgeclip.bundles import install_bundles

    facts, lines, code = install_bundles(complain=complain, **options)
    if json:
        print_json(facts)
    elif lines:
        print(*lines, sep="\n")
    return code
