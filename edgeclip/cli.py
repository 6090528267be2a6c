"""The command line: one thin function per command. The only place that prints or exits.

Nothing heavy is imported before a command needs it: `edgeclip --help` loads neither numpy, OpenCV nor an engine.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from edgeclip import __version__
from edgeclip.errors import OK, UNAVAILABLE, DataError, EdgeclipError, EngineError, UsageError

EPILOG = """\
exit codes:
  0   done; also after Ctrl-C or SIGTERM during `run` and `capture`
  2   usage: an option or argument is wrong
  65  bad data: bundle, labels, picture, data set
  69  unavailable: a source or an engine runtime cannot be had
  78  configuration: file, environment, or a place that cannot be written
"""

BUNDLE_HELP = "engine bundle, directory or .tar (default: nano)"
BACKEND_HELP = "engine runtime: litert, tflite-runtime, onnxruntime, tensorrt, tensorrt-rtx"
INTERRUPTED = 130  # what shells report for a command that Ctrl-C ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; argparse itself exits with 2 for unknown options."""
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:
        importlib.import_module("argcomplete").autocomplete(parser)
    arguments = vars(parser.parse_args(argv))
    command = arguments.pop("command", None)
    if command is None:
        parser.print_help()
        return UsageError.exit_code
    try:
        code: int = command(**arguments)
        sys.stdout.flush()
        return code
    except EdgeclipError as error:
        _complain(error)
        return error.exit_code
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "edgeclip":
            raise
        _complain(EngineError(f"{error.name} is not installed, and this command needs it", "pip install edgeclip"))
        return UNAVAILABLE
    except PermissionError as error:  # any file or directory along the way may refuse; each is told alike
        _complain(DataError(f"{error.filename or error}: permission denied", "check its owner and permissions"))
        return DataError.exit_code
    except BrokenPipeError:  # the reader has gone, as `| head` does: nothing to say, and nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        _notice("interrupted")
        return INTERRUPTED


def _complain(error: EdgeclipError) -> None:
    print(f"error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  fix: {error.hint}", file=sys.stderr)


def _notice(text: str) -> None:
    print(f"edgeclip: {text}", file=sys.stderr, flush=True)


# -- commands ----------------------------------------------------------------------------------------------------------


def _run(config: str | None = None, **flags: Any) -> int:
    from edgeclip.config import load_config

    settings = load_config(flags, os.environ, config or os.environ.get("EDGECLIP_CONFIG"))
    if not settings.source:
        raise UsageError("no source to watch", "try `edgeclip run --source demo`, or `--camera 0` for the first camera")
    from edgeclip.runtime.service import StopSignals, serve

    with StopSignals() as stop:
        summary = serve(settings, sys.stdout, _notice, stop)
    _notice(str(summary))
    return OK


def _labels_check(file: str) -> int:
    from edgeclip.runtime.labels import parse_labels

    print(f"{file}: {len(parse_labels(file))} labels, all well")
    return OK


def _labels_list(file: str, json: bool = False) -> int:
    from edgeclip.runtime.labels import parse_labels

    labels = parse_labels(file)
    if json:
        _print_json({label.name: list(label.prompts) for label in labels})
    else:
        for label in labels:
            print(f"{label.name}: {' | '.join(label.prompts)}" if label.prompts else label.name)
    return OK


def _labels_embed(file: str, bundle: str | None = None, threads: int | None = None) -> int:
    from edgeclip.bundle import open_bundle
    from edgeclip.progress import progress_for
    from edgeclip.runtime.labelbank import load_bank
    from edgeclip.runtime.labels import parse_labels

    opened, labels = open_bundle(bundle or _usual_bundle()), parse_labels(file)
    with progress_for(sys.stderr) as progress:
        progress.stage(f"embedding {file}", len(labels))
        bank = load_bank(opened, labels, threads=threads, notices=progress.note)
        progress.advance(len(labels))
    print(f"{len(bank.names)} labels are embedded for {opened.manifest.name} (space {bank.space.split(':')[-1][:12]})")
    return OK


def _eval(
    data: str,
    labels: str | None = None,
    bundle: str | None = None,
    backend: str | None = None,
    threads: int | None = None,
    json: bool = False,
) -> int:
    from edgeclip.bundle import open_bundle
    from edgeclip.evaluate import evaluate
    from edgeclip.progress import progress_for
    from edgeclip.runtime.labels import parse_labels

    opened = open_bundle(bundle or _usual_bundle())
    wanted = parse_labels(labels) if labels else None
    with progress_for(sys.stderr) as progress:
        result = evaluate(opened, data, wanted, backend=backend, threads=threads, progress=progress)
    figures = result.as_dict()
    if json:
        _print_json(figures)
        return OK
    print(f"{opened.origin}: {result.bundle} on {result.runtime}, {result.ms_per_image_p50:.2f} ms a picture")
    if result.top1 is not None and result.top5 is not None:
        print(f"top-1 {result.top1:.1%}, top-5 {result.top5:.1%} of {result.n} pictures among {result.labels} labels")
    if result.retrieval is not None:
        for way, recall in (
            ("picture to text", result.retrieval.image_to_text),
            ("text to picture", result.retrieval.text_to_image),
        ):
            print(f"{way}: R@1 {recall.r1:.1%}, R@5 {recall.r5:.1%}, R@10 {recall.r10:.1%}")
    for mistake in result.confusions[:5]:
        print(f"{mistake.n} x {mistake.label} taken for {mistake.predicted}")
    return OK


def _inspect(bundle: str | None = None, json: bool = False) -> int:
    from edgeclip.bundle import open_bundle
    from edgeclip.describe import describe

    facts = describe(open_bundle(bundle or _usual_bundle()))
    if json:
        _print_json(facts)
        return OK
    preprocess, scoring, text = facts["preprocess"], facts["scoring"], facts["text"]
    height, width = preprocess["size"]
    print(f"{facts['name']}  {facts['origin']}, built {facts['created']}")
    print(f"  {facts['checked']}, {facts['bytes'] / 1e6:.1f} MB, {facts['golden']['frames']} golden frames")
    print(f"  space {facts['space']}, {facts['dim']} dimensions, scored by {scoring['kind']} x {scoring['scale']:.4g}")
    print(f"  pictures {width} x {height}, {preprocess['resize']}, {preprocess['interpolation']}")
    print(f"  text {text['context_length']} tokens, {len(text['templates'])} templates")
    print(f"  calibrated on {facts['calibration']['frames']} frames, {facts['calibration']['digest'][:19]}")
    for engine in facts["engines"]:
        size_mb, target = engine["bytes"] / 1e6, " ".join(value for value in engine["target"].values() if value)
        print(f"  {engine['role']:<6}{engine['file']}: {engine['precision']}, {size_mb:.1f} MB, for {target}")
    for candidate in (facts["report"] or {}).get("images", []):
        if candidate.get("kept"):
            centred = candidate["distance"]["centred"]["mean"]
            top1 = f", top-1 {candidate['top1']:.1f} %" if candidate.get("top1") is not None else ""
            print(f"  verified {candidate['file']}: mean-centred cosine {centred:.4f}{top1}")
    return OK


def _doctor(bundle: str | None = None, json: bool = False) -> int:
    import msgspec

    from edgeclip.doctor import diagnose

    checks = diagnose(bundle or _usual_bundle())
    if json:
        _print_json(msgspec.to_builtins(checks))
    else:
        for check in checks:
            print(f"{check.status:<5} {check.name}: {check.detail}")
            if check.fix and check.status != "ok":
                print(f"      fix: {check.fix}")
    return UNAVAILABLE if any(check.status == "fail" for check in checks) else OK


def _verify(
    bundle: str, data: str | None = None, labels: str | None = None, threads: int | None = None, json: bool = False
) -> int:
    import msgspec

    from edgeclip.bundle import open_bundle
    from edgeclip.progress import progress_for
    from edgeclip.runtime.labels import parse_labels
    from edgeclip.verify import verify_bundle

    opened = open_bundle(bundle)
    wanted = parse_labels(labels) if labels else None
    with progress_for(sys.stderr) as progress:
        verdict = verify_bundle(opened, data, wanted, threads=threads, progress=progress)
    if json:
        _print_json(msgspec.to_builtins(verdict))
    else:
        for engine in verdict.engines:
            print(f"{engine.file} on {engine.runtime}: {engine.failed or f'mean-centred cosine {engine.centred:.4f}'}")
        if verdict.top1 is not None:
            against = f", float {verdict.float_top1:.2f} %" if verdict.float_top1 is not None else ""
            print(f"top-1 {verdict.top1:.2f} %{against}, top-5 {verdict.top5:.2f} % of {verdict.n} pictures")
    if not verdict.passed:
        raise DataError(
            f"{bundle} does not pass: {'; '.join(verdict.failed)}", "build it again, or see what `edgeclip doctor` says"
        )
    return OK


def _bench(json: bool = False, bundle: str | None = None, **options: Any) -> int:
    import msgspec

    from edgeclip.bench import run_bench
    from edgeclip.progress import progress_for

    with progress_for(sys.stderr) as progress:
        result = run_bench(bundle or _usual_bundle(), progress=progress, **options)
    if json:
        _print_json(msgspec.to_builtins(result))
        return OK
    print(f"{result.bundle} on {result.runtime}, {result.cores} cores, {result.source}, {result.labels} labels")
    print(f"{'stage':<12}{'p50 ms':>10}{'p95 ms':>10}")
    for name, stage in result.stages.items():
        mark = "  slowest" if name == result.slowest_stage else ""
        print(f"{name:<12}{stage.p50_ms:>10.3f}{stage.p95_ms:>10.3f}{mark}")
    print(
        f"pipeline {result.pipeline_fps:.1f} fps, bare engine {result.engine_fps:.1f} fps ({result.ratio:.2f} of it), "
        f"reading and preprocessing alone {result.host_fps:.1f} fps"
    )
    print(result.limit)
    print(f"{result.frames} frames, {result.rss_mb:.0f} MB, first decision {result.startup_s:.2f} s after the start")
    return OK


def _train(config: str, out: str | None = None, resume: bool = False) -> int:
    from pathlib import Path

    from edgeclip.progress import progress_for
    from edgeclip.registry import resolve

    train = resolve("edgeclip.train.run:train", extra="train", what="`edgeclip train`")
    folder = Path(out) if out else Path("runs") / Path(config).stem
    with progress_for(sys.stderr) as progress:
        figures = train(Path(config), folder, resume, progress)
    print(
        f"{folder / 'checkpoint.safetensors'}: top-1 {figures['top1']:.1%}, top-5 {figures['top5']:.1%} on the dev set"
    )
    return OK


def _capture(source: list[str] | None = None, out: str = "", json: bool = False, **options: Any) -> int:
    from pathlib import Path

    import msgspec

    from edgeclip.capture.session import CaptureOptions, capture
    from edgeclip.progress import progress_for
    from edgeclip.runtime.service import StopSignals

    if not source:
        raise UsageError("no source to capture from", "try `--camera 0`, or `--source rtsp://HOST/PATH`")
    options["bundle"] = options.get("bundle") or _usual_bundle()
    asked = CaptureOptions(source=tuple(source), out=Path(out), **options)
    with StopSignals() as stop, progress_for(sys.stderr) as progress:
        outcome = capture(asked, stop, progress)
    if json:
        _print_json(msgspec.to_builtins(outcome))
        return OK
    counts = outcome.counts
    print(
        f"{outcome.out}: {outcome.kept} frames; this run of {outcome.seconds:.1f} s took in {outcome.new}; "
        f"{outcome.ended}"
    )
    print(
        f"  {counts.seen} looked at: {counts.near} near-duplicates, {counts.redundant} redundant, "
        f"{counts.blurred} blurred, {counts.dark} dark, {counts.blank} blank; {counts.replaced} replaced by newer ones"
    )
    print(f"  look at {os.path.join(out, 'contact-sheet.png')} and {os.path.join(out, 'coverage.html')}")
    if outcome.enough:
        print(f"  next: edgeclip build RECIPE.yaml --calibration {out}")
    else:
        print("  too few for `edgeclip build`, which asks for 64: give the same command again to go on")
    return OK


MODEL_FACTS = ("size", "resize", "interpolation", "mean", "std")


def _build(recipe: str | None = None, eval_labels: str | None = None, target: str | None = None, **options: Any) -> int:
    from edgeclip.build.checkpoints.place import Facts
    from edgeclip.build.source import Model
    from edgeclip.progress import progress_for
    from edgeclip.registry import resolve

    facts = Facts(**{name: options.pop(name) for name in MODEL_FACTS if name in options})
    names = ("model", "architecture", "image_onnx", "text_bank")
    options["model"] = Model(facts=facts, **{name: options.pop(name) for name in names if name in options})
    build = resolve("edgeclip.build.stages:build", extra="build", what="`edgeclip build`")
    targets = target.split(",") if target else None
    with progress_for(sys.stderr) as progress:
        result = build(recipe, targets=targets, labels=eval_labels, progress=progress, **options)
    for engine in result.report.kept():
        print(f"{engine.file}: {engine.precision}, {engine.bytes / 1e6:.1f} MB, {engine.latency_ms:.2f} ms")
    print(f"{result.bundle}: {'written' if result.changed else 'was up to date'}")
    return OK


def _compile(
    bundle: str,
    target: str | None = None,
    sm: str | None = None,
    out: str | None = None,
    workspace: int | None = None,
    json: bool = False,
    **options: Any,
) -> int:
    from pathlib import Path

    import msgspec

    from edgeclip.bundle import open_bundle
    from edgeclip.compile.builder import Options
    from edgeclip.compile.bundles import compile_bundle
    from edgeclip.compile.target import arch_from
    from edgeclip.progress import progress_for

    opened = open_bundle(bundle)
    archs = tuple(arch_from(text) for text in sm.split(",")) if sm else ()
    with progress_for(sys.stderr) as progress:
        result = compile_bundle(
            opened,
            runtime=target,
            archs=archs,
            options=Options(**options),
            workspace=workspace << 20 if workspace else None,
            out=Path(out) if out else None,
            progress=progress,
        )
    if json:
        plans = [
            {**msgspec.to_builtins(made.entry), "int8": made.table.int8, "not_int8": made.table.not_int8}
            for made in result.compiled
        ]
        _print_json({"bundle": str(result.bundle), "plans": plans, "tested": result.tested})
        return OK
    for made in result.compiled:
        print(f"{made.entry.file}: {made.plan_bytes / 1e6:.1f} MB, {made.table}")
    print(f"{result.bundle}: written, {'golden frames pass' if result.tested else 'to be tested on its GPU'}")
    return OK


def _help(words: Sequence[str] = ()) -> int:
    make_parser().parse_args([*words, "--help"])
    return OK


def _usual_bundle() -> str | None:
    """The bundle that the environment names, as for `run`; None for the one that comes with edgeclip."""
    return os.environ.get("EDGECLIP_BUNDLE") or None


def _print_json(value: Any) -> None:
    import json

    print(json.dumps(value, ensure_ascii=False))


# -- options -----------------------------------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """Options that were not given are absent from the namespace, so that lower layers of configuration show."""
    parser = _Parser(
        prog="edgeclip",
        description="Watch a camera in words: CLIP engines at INT8 on small machines.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--version", action="version", version=f"edgeclip {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_run(commands)
    _add_labels(commands)
    _add_inspect(commands)
    _add_eval(commands)
    _add_bench(commands)
    _add_doctor(commands)
    _add_train(commands)
    _add_capture(commands)
    _add_build(commands)
    _add_compile(commands)
    _add_verify(commands)
    _add_help(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """argparse, complaining in two lines like everything else, with the nearest word that there is."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            near = _nearest(unknown[0].partition("=")[0], self._option_string_actions)
            self._refuse(f"{unknown[0]} is no option or argument of `{self.prog}`", near)
        return known, unknown

    def error(self, message: str) -> NoReturn:
        argument, wrong, _ = message.partition(": invalid choice: ")
        word = message.split("'")[1] if wrong and "'" in message else ""
        if not word:
            self._refuse(message)
        choices = [name for action in self._actions for name in action.choices or ()]
        self._refuse(
            f"{word} is no {argument.removeprefix('argument ').lower()} of {self.prog}", _nearest(word, choices)
        )

    def _refuse(self, message: str, near: str = "") -> NoReturn:
        see = f"`{self.prog} --help` lists what there is"
        _complain(UsageError(message, f"did you mean `{near}`? {see}" if near else see))
        sys.exit(UsageError.exit_code)


def _nearest(word: str, known: Iterable[str]) -> str:
    import difflib

    return next(iter(difflib.get_close_matches(word, list(known), 1)), "")


def _add(commands: Any, name: str, function: Any, help: str, description: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=description or help, argument_default=argparse.SUPPRESS
    )
    parser.set_defaults(command=function)
    return parser


def _add_run(commands: Any) -> None:
    parser = _add(
        commands,
        "run",
        _run,
        "watch a camera, stream, film or pictures and say what is seen",
        "Watch a source and score every frame against the labels. On a terminal a live table, elsewhere a line when "
        "the best label changes (files of single pictures: a line each). Every option can also be set in the "
        "environment (EDGECLIP_MAX_FRAMES=40) and in a YAML file (max_frames: 40).",
    )
    parser.add_argument(
        "--camera", dest="source", action="append", type=_camera, metavar="N", help="camera number; may be repeated"
    )
    parser.add_argument(
        "--source",
        action="append",
        metavar="URI",
        help="rtsp://..., http://.../mjpeg, clip.mp4, photo.jpg, frames/, 'shots/*.jpg', csi://0, demo; repeatable",
    )
    parser.add_argument("--labels", metavar="FILE", help="labels, one a line; watched while running")
    parser.add_argument("--label", action="append", metavar="TEXT", help="a label; may be repeated")
    parser.add_argument("--bundle", metavar="PATH", help=BUNDLE_HELP)
    parser.add_argument("--fps", type=_positive, metavar="N", help="take at most N frames a second")
    parser.add_argument("--top", type=_count, metavar="K", help="labels to report, 0 for all (default: 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object per decision on standard output")
    parser.add_argument(
        "--sink", action="append", metavar="URI", help="jsonl:PATH, stdout:, lines:, table:; may be repeated"
    )
    parser.add_argument("--record", metavar="FILE.mp4", help="annotated video")
    parser.add_argument("--snapshot", metavar="FILE.png", help="the last frame, annotated, when the run ends")
    parser.add_argument("--max-frames", type=_at_least_one, metavar="N", help="stop after N decisions")
    parser.add_argument("--threads", type=_at_least_one, metavar="N", help="threads of the image engine")
    parser.add_argument("--backend", metavar="NAME", help=BACKEND_HELP)
    parser.add_argument("--realtime", action="store_true", help="play files at their own rate, newest frame wins")
    parser.add_argument(
        "--smoothing",
        type=_zero_or_more,
        metavar="SECONDS",
        help="half-life of what was seen before (default: 0.5; single pictures: 0)",
    )
    parser.add_argument("--wait", action="store_true", help="keep trying when a live source is not there yet")
    parser.add_argument("--recompile", action="store_true", help="compile a plan that is not for this device again")
    parser.add_argument("--gpu-preprocess", action="store_true", help="resize and crop on the GPU (CUDA)")
    parser.add_argument(
        "--config", metavar="FILE", help="YAML settings (or EDGECLIP_CONFIG); flags and environment come first"
    )


def _add_labels(commands: Any) -> None:
    group = commands.add_parser("labels", help="check, list or embed a label file", description="Label files.")
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    check = _add(actions, "check", _labels_check, "say whether a label file is well, or where it is not")
    listed = _add(actions, "list", _labels_list, "print the labels, with their own prompts")
    embed = _add(actions, "embed", _labels_embed, "compute text embeddings now, so that `run` need not")
    for parser in (check, listed, embed):
        parser.add_argument("file", metavar="FILE", help="labels, one a line")
    listed.add_argument("--json", action="store_true", help="one JSON object: label to prompts")
    embed.add_argument("--bundle", metavar="PATH", help=BUNDLE_HELP)
    embed.add_argument("--threads", type=_at_least_one, metavar="N", help="threads of the text engine")


def _add_inspect(commands: Any) -> None:
    parser = _add(commands, "inspect", _inspect, "check a bundle and say what it holds")
    parser.add_argument("bundle", nargs="?", metavar="BUNDLE", help=BUNDLE_HELP)
    parser.add_argument("--json", action="store_true", help="manifest, files and report as one JSON object")


def _add_doctor(commands: Any) -> None:
    parser = _add(
        commands,
        "doctor",
        _doctor,
        "say what this machine can and cannot do, and how to mend it",
        "Tries every engine of the bundle on every runtime installed. Exit code 69 where `run` cannot work.",
    )
    parser.add_argument("--bundle", metavar="PATH", help=BUNDLE_HELP)
    parser.add_argument("--json", action="store_true", help="all checks as a JSON list")


def _add_verify(commands: Any) -> None:
    parser = _add(
        commands,
        "verify",
        _verify,
        "hold a bundle against the float model it was made from",
        "Every engine that runs here against the golden frames; accuracy against the float figure of the bundle's "
        "report, where it is of the same data and labels. Exit code 65 where a gate is missed.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="bundle, directory or .tar")
    parser.add_argument("--data", metavar="PATH", help="labelled pictures, as for `eval`")
    parser.add_argument("--labels", metavar="FILE", help="the labels they are told apart by")
    parser.add_argument("--threads", type=_at_least_one, metavar="N", help="threads of the engines")
    parser.add_argument("--json", action="store_true", help="the verdict as one JSON object")


def _add_eval(commands: Any) -> None:
    parser = _add(
        commands,
        "eval",
        _eval,
        "measure a bundle on labelled pictures",
        "Zero-shot top-1 and top-5, and retrieval R@1/5/10 where pictures have captions.",
    )
    parser.add_argument("data", metavar="DATA", help="folder of class folders, or tar shards of picture + .json")
    parser.add_argument("--labels", metavar="FILE", help="label set to choose from (default: the data's own)")
    parser.add_argument("--bundle", metavar="PATH", help=BUNDLE_HELP)
    parser.add_argument("--backend", metavar="NAME", help=BACKEND_HELP)
    parser.add_argument("--threads", type=_at_least_one, metavar="N", help="threads of the engines")
    parser.add_argument("--json", action="store_true", help="all figures as one JSON object")


def _add_bench(commands: Any) -> None:
    parser = _add(
        commands,
        "bench",
        _bench,
        "measure every stage, and the pipeline against the bare engine",
        "Pipeline and bare engine run in turns, so that a busy machine slows both alike.",
    )
    parser.add_argument("--source", metavar="URI", help="what to read (default: demo)")
    parser.add_argument("--labels", metavar="FILE", help="labels (default: the built-in everyday ones)")
    parser.add_argument("--bundle", metavar="PATH", help=BUNDLE_HELP)
    parser.add_argument("--backend", metavar="NAME", help=BACKEND_HELP)
    parser.add_argument("--threads", type=_at_least_one, metavar="N", help="threads of the image engine")
    parser.add_argument("--seconds", type=_positive, metavar="S", help="how long to measure each (default: 10)")
    parser.add_argument("--json", action="store_true", help="all figures as one JSON object")


def _add_train(commands: Any) -> None:
    parser = _add(
        commands,
        "train",
        _train,
        "train both towers from pairs of pictures and texts",
        "Train an image and a text tower from pairs: tar shards, class folders, or a CSV of path,text. Each epoch is "
        "measured on the dev set and added to DIR/history.jsonl and DIR/curves.png; the end is "
        "DIR/checkpoint.safetensors, which `edgeclip build` takes. A run that was stopped, even by kill -9, goes on "
        "with --resume. engines/nano-train.yaml is an example of CONFIG.yaml.",
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="data, towers, teachers and phases of training")
    parser.add_argument("--out", metavar="DIR", help="state, checkpoint, history and curves (default: runs/CONFIG)")
    parser.add_argument("--resume", action="store_true", help="go on where the run in the same DIR stopped")


def _add_capture(commands: Any) -> None:
    parser = _add(
        commands,
        "capture",
        _capture,
        "collect a varied calibration set from a running camera",
        "Keep the frames that differ most as the image engine sees them; duplicates, blurred, dark and blank ones are "
        "left out. Goes on until Ctrl-C, a limit or the end of the source. The same command again goes on with the "
        "same set, also after a crash.",
    )
    parser.add_argument(
        "--camera", dest="source", action="append", type=_camera, metavar="N", help="camera number; may be repeated"
    )
    parser.add_argument("--source", action="append", metavar="URI", help="as for `run`; repeatable")
    parser.add_argument("--out", required=True, metavar="DIR", help="the set, new or to go on with: calibration/site-a")
    parser.add_argument("--frames", type=_at_least_one, metavar="N", help="keep at most N frames (default: 512)")
    parser.add_argument("--bundle", metavar="PATH", help=BUNDLE_HELP)
    parser.add_argument("--fps", type=_positive, metavar="N", help="look at no more than N frames a second")
    parser.add_argument("--seconds", type=_positive, metavar="S", help="end after S seconds")
    parser.add_argument("--patience", type=_positive, metavar="S", help="end when nothing new has come for S seconds")
    parser.add_argument(
        "--min-sharpness", type=_zero_or_more, metavar="V", help="variance of the Laplacian, 0 for any (default: 20)"
    )
    parser.add_argument("--backend", metavar="NAME", help=BACKEND_HELP)
    parser.add_argument("--threads", type=_at_least_one, metavar="N", help="threads of the image engine")
    parser.add_argument("--wait", action="store_true", help="keep trying when a live source is not there yet")
    parser.add_argument("--json", action="store_true", help="the outcome as one JSON object")


def _add_build(commands: Any) -> None:
    parser = _add(
        commands,
        "build",
        _build,
        "build a bundle: export, calibrate, quantize, verify, pack",
        "Build a bundle from a recipe, or of a model. Steps that are up to date are skipped. A bundle that does not "
        "reach its recipe's gates is not written.",
    )
    parser.add_argument("recipe", nargs="?", metavar="RECIPE.yaml", help="what to build, and from which checkpoint")
    parser.add_argument(
        "--model",
        metavar="NAME|DIR|FILE",
        help="a recipe's name in engines/, a Hugging Face or open_clip directory, two ONNX files with model.yaml, or a "
        "checkpoint file: of edgeclip train, an original CLIP .pt, or open_clip's weights with --architecture",
    )
    parser.add_argument("--architecture", metavar="NAME", help="open_clip's name of what a file holds the weights of")
    parser.add_argument("--image-onnx", metavar="FILE", help="an image tower alone: [N, 3, H, W] -> [N, D]")
    parser.add_argument("--text-bank", metavar="FILE.npz", help="its texts: names [L] and embeddings [L, D]")
    parser.add_argument("--image-size", dest="size", type=_at_least_one, metavar="PIXELS", help="side of its input")
    parser.add_argument("--resize", choices=("shortest", "squash"), help="how pictures were resized in training")
    parser.add_argument("--interpolation", choices=("bilinear", "bicubic"), help="how they were interpolated")
    parser.add_argument("--mean", type=_triple, metavar="R,G,B", help="subtracted from pixels in 0..1")
    parser.add_argument("--std", type=_triple, metavar="R,G,B", help="what they were divided by then")
    parser.add_argument("--checkpoint", metavar="FILE", help="another checkpoint than the recipe's")
    parser.add_argument("--calibration", metavar="PATH", help="folder, pattern, shards or film of what is to be seen")
    parser.add_argument(
        "--target", metavar="LIST", help="of tflite, onnx, tensorrt-rtx, tensorrt: a comma-separated list"
    )
    parser.add_argument("--out", metavar="DIR", help="where the bundle goes, a directory or .tar")
    parser.add_argument("--work", metavar="DIR", help="where steps keep their results (default: build-work/NAME)")
    parser.add_argument("--data", metavar="PATH", help="labelled pictures to measure accuracy on")
    parser.add_argument("--eval-labels", metavar="FILE", help="the labels these pictures are told apart by")
    parser.add_argument(
        "--budget", type=_positive, metavar="MINUTES", help="how long the search for a quantization may take"
    )


def _add_compile(commands: Any) -> None:
    parser = _add(
        commands,
        "compile",
        _compile,
        "compile a bundle's INT8 ONNX to a TensorRT plan, on the device or ahead of time",
        "Add TensorRT plans to a bundle, in its place. A plan runs on the TensorRT and the GPU it was compiled for: "
        "compile again after a JetPack upgrade. Neither torch nor onnx is needed.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="bundle, directory or .tar, with image.onnx in it")
    parser.add_argument("--target", choices=("tensorrt", "tensorrt-rtx"), help="default: what this machine has")
    parser.add_argument("--sm", metavar="LIST", help="GPUs to compile for ahead of time, like 86,89,120 (tensorrt-rtx)")
    parser.add_argument("--batch", dest="batches", type=_batches, metavar="LIST", help="pictures a run (default: 1)")
    parser.add_argument("--out", metavar="DIR", help="write the bundle there instead, a directory or .tar")
    parser.add_argument(
        "--floats", choices=("fp16", "fp32"), help="what is not INT8 computes in (default: fp16, LayerNorm in fp32)"
    )
    parser.add_argument("--workspace", type=_at_least_one, metavar="MB", help="memory that kernels may be tried in")
    parser.add_argument("--version-compatible", action="store_true", help="a plan for later minor versions too, slower")
    parser.add_argument(
        "--hardware-compatible", action="store_true", help="a plan for all GPUs from Ampere on, slower; not on Jetson"
    )
    parser.add_argument("--json", action="store_true", help="what was added as one JSON object")


def _triple(text: str) -> tuple[float, float, float]:
    values = [_number(part) for part in text.split(",")]
    if len(values) != 3 or not all(0.0 <= value <= 1.0 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers from 0 to 1: --mean 0.48,0.46,0.41")
    return values[0], values[1], values[2]


def _add_help(commands: Any) -> None:
    parser = _add(commands, "help", _help, "say how edgeclip, or one of its commands, is used")
    parser.add_argument("words", nargs="*", metavar="COMMAND", help="run, labels check, ...")


def _camera(text: str) -> str:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a camera number; for other sources use --source")
    return f"camera:{int(text)}"


def _positive(text: str) -> float:
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return value


def _zero_or_more(text: str) -> float:
    value = _number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -1e9 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def _batches(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_at_least_one(part.strip()) for part in text.split(",")))


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)
