"""The command line: one thin function per command. The only place that prints or exits.

Nothing heavy is imported before a command needs it: `edgeclip --help` loads neither numpy, OpenCV nor an engine.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from edgeclip.errors import BAD_DATA, OK, UNAVAILABLE, DataError, EdgeclipError, EngineError, UsageError
from edgeclip.options import make_parser

INTERRUPTED = 130  # what shells report for a command that Ctrl-C ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; argparse itself exits with 2 for unknown options."""
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:
        importlib.import_module("argcomplete").autocomplete(parser)
    try:
        arguments = vars(parser.parse_args(argv))
        command = arguments.pop("command", None)
        if command is None:
            parser.print_help()
            return UsageError.exit_code
        code: int = COMMANDS[command](**arguments)
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
    from edgeclip.runtime import journal
    from edgeclip.runtime.notify import sd_notify

    fix = f"\n  fix: {error.hint}" if error.hint else ""
    journal.write(sys.stderr, f"error: {error.message}{fix}", journal.ERROR, {"EDGECLIP_EXIT": str(error.exit_code)})
    sd_notify(f"STATUS=failed: {error.message}{f' ({error.hint})' if error.hint else ''}")


def _notice(text: str) -> None:
    from edgeclip.runtime import journal

    if isinstance(text, journal.Notice):
        journal.write(sys.stderr, f"edgeclip: {text}", text.priority, text.fields)
    else:
        journal.write(sys.stderr, f"edgeclip: {text}", journal.INFO)


# -- commands ----------------------------------------------------------------------------------------------------------


def _run(config: str | None = None, **flags: Any) -> int:
    from edgeclip.config import Config, load_config

    def load() -> Config:
        return load_config(flags, os.environ, config or os.environ.get("EDGECLIP_CONFIG"))

    if not load().source:
        raise UsageError("no source to watch", "try `edgeclip run --source demo`, or `--camera 0` for the first camera")
    from edgeclip.runtime.lifecycle import run_for_months

    if "NOTIFY_SOCKET" in os.environ:
        importlib.import_module("faulthandler").enable()  # where every thread was when the watchdog bit
    _notice(str(run_for_months(load, sys.stdout, _notice)))
    return OK


def _labels_check(file: str, bundle: str | None = None, json: bool = False) -> int:
    from dataclasses import asdict

    from edgeclip.bundle import open_bundle
    from edgeclip.collisions import check_file
    from edgeclip.runtime.shots import read_shots, shots_path
    from edgeclip.state import state_path

    opened = open_bundle(bundle or _usual_bundle())
    space, dim = opened.manifest.space, opened.manifest.dim
    found = check_file(file, opened, shots=read_shots(shots_path(state_path(), space), space, dim).shots)
    if json:
        _print_json(asdict(found))
        return OK
    counts = [f"{found.labels} labels"] * bool(found.labels) + [f"{found.watches} watches"] * bool(found.watches)
    print(f"{file}: {' and '.join(counts)}, {'but' if found.collisions else 'all well'}")
    for pair in found.collisions:
        print(
            f"  lines {pair.first_line} and {pair.second_line}: {pair.first!r} and {pair.second!r} are nearly the same "
            f"sentence to {found.bundle}: {pair.similarity:.2f}. {pair.so}"
        )
    for name, count in found.taught.items():
        print(f"  {name!r} was taught with {count} shots in use")
    for name, count in found.taught_elsewhere.items():
        print(f"  {name!r} was taught ({count} shots), and no line names it: to use them, add it to {file}")
    return OK


def _labels_list(file: str, json: bool = False) -> int:
    from edgeclip.collisions import sentences_of

    labels = [sentence.label for sentence in sentences_of(file) if sentence.kind != "negative"]
    if json:
        _print_json({label.name: list(label.prompts) for label in labels})
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

    opened, labels = open_bundle(bundle or _usual_bundle()), [sentence.label for sentence in sentences_of(file)]
    with progress_for(sys.stderr) as progress:
        progress.stage(f"embedding {file}", len(labels))
        bank = load_bank(opened, labels, threads=threads, notices=progress.note)
        progress.advance(len(labels))
        load_background(opened, functools.partial(load_bank, opened, threads=threads))
    print(f"{len(bank.names)} labels are embedded for {opened.manifest.name} (space {bank.space.split(':')[-1][:12]})")
    return OK


def _events_list(limit: int = 50, json: bool = False, state: str | None = None) -> int:
    return _print_events(state, json, limit)


def _events_dead(limit: int = 50, json: bool = False, state: str | None = None) -> int:
    return _print_events(state, json, limit, dead=True)


def _events_show(event: str, json: bool = False, state: str | None = None) -> int:
    return _print_events(state, json, 1000, event=event)


def _events_retry(event: str | None = None, state: str | None = None) -> int:
    from edgeclip.events.outbox import existing_outbox
    from edgeclip.state import state_dir

    with existing_outbox(state_dir(state)) as outbox:
        count = outbox.retry(event)
    print(f"{count} deliveries are tried again")
    return OK


def _print_events(state: str | None, as_json: bool, limit: int, *, event: str | None = None, dead: bool = False) -> int:
    import msgspec

    from edgeclip.events.outbox import existing_outbox
    from edgeclip.state import state_dir

    with existing_outbox(state_dir(state)) as outbox:
        found = outbox.listed(limit, event, dead)
    if event is not None and not found:
        raise DataError(f"no event or message {event} in the outbox", "`edgeclip events list` shows what there is")
    for message, deliveries in found:
        if as_json:
            _print_json({"message": msgspec.to_builtins(message), "deliveries": [one._asdict() for one in deliveries]})
            continue
        word = message.type.rpartition(".")[2]
        print(f"{message.time}  {word:<7}  {message.subject}  {message.data.camera}  {message.id}")
        if event is not None:
            _print_json(msgspec.to_builtins(message))
        for one in deliveries:
            error = f": {one.error}" if one.error and one.state != "delivered" else ""
            print(f"    {one.state:<9}  {one.sink}  {one.attempts} attempts{error}")
    return OK


def _eval(
    data: str,
    labels: str | None = None,
    bundle: str | None = None,
    backend: str | None = None,
    threads: int | None = None,
    json: bool = False,
    taught: bool = True,
) -> int:
    from edgeclip.bundle import open_bundle
    from edgeclip.evaluate import evaluate
    from edgeclip.progress import progress_for
    from edgeclip.runtime.labels import parse_labels
    from edgeclip.runtime.taughtlabels import TaughtLabels
    from edgeclip.state import state_dir

    opened = open_bundle(bundle or _usual_bundle())
    wanted = parse_labels(labels) if labels else None
    with progress_for(sys.stderr) as progress:
        known = TaughtLabels(opened, state_dir(), progress.note) if taught else None
        result = evaluate(opened, data, wanted, backend=backend, threads=threads, progress=progress, taught=known)
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


def _inspect(bundle: str | None = None, json: bool = False, edgetpu_compatible: bool = False) -> int:
    from edgeclip.bundle import open_bundle
    from edgeclip.describe import describe

    opened = open_bundle(bundle or _usual_bundle())
    if edgetpu_compatible:
        return _inspect_for_edgetpu(opened, json)
    facts = describe(opened)
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


def _inspect_for_edgetpu(bundle: Any, json: bool) -> int:
    from msgspec import to_builtins

    from edgeclip.edgetpu import examine_bundle, require_compatible

    findings = examine_bundle(bundle)
    if json:
        _print_json({"compatible": findings.compatible, **to_builtins(findings)})
        return OK if findings.compatible else BAD_DATA
    require_compatible(findings)
    print("\n".join(findings.lines()))
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


def _service_install(root: str = "/", dry_run: bool = False, **options: Any) -> int:
    from pathlib import Path

    from edgeclip.unit import Place, install

    place = Place(Path(root), dry_run)
    install(place, **options)
    if not dry_run:
        print("next: name your camera in /etc/edgeclip/edgeclip.yaml, then: systemctl restart edgeclip")
    return OK


def _service_uninstall(root: str = "/", dry_run: bool = False) -> int:
    from pathlib import Path

    from edgeclip.unit import Place, uninstall

    uninstall(Place(Path(root), dry_run))
    return OK


def _service_status(json: bool = False) -> int:
    from edgeclip.unit import status, summary

    facts = status()
    if json:
        _print_json(facts)
    else:
        print("\n".join(summary(facts)))
    return OK if facts.get("ActiveState") in ("active", "reloading") else UNAVAILABLE


def _service_logs(lines: int = 50, follow: bool = False) -> int:
    from edgeclip.unit import logs_command

    command = logs_command(lines, follow)
    try:
        os.execvp(command[0], command)
    except FileNotFoundError as error:
        raise EngineError("journalctl is not here: this system has no systemd") from error


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
        if verdict.int8 is not None:
            against = f" (float {verdict.floating.top1:.2f} %)" if verdict.floating is not None else ""
            print(f"top-1 {verdict.int8.top1:.2f} %{against}, top-5 {verdict.int8.top5:.2f} % of {verdict.n} pictures")
        if verdict.cosine_centred is not None:
            spread = verdict.cosine_centred
            print(
                f"mean-centred cosine to float when built: mean {spread.mean:.4f}, 1st percentile {spread.p1:.4f}, "
                f"least {spread.min:.4f} ({spread.frames} frames, {spread.of})"
            )
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


def _tune(
    source: list[str] | None = None, positives: list[str] | None = None, json: bool = False, **options: Any
) -> int:
    import msgspec

    from edgeclip.progress import progress_for
    from edgeclip.runtime.signals import StopSignals
    from edgeclip.tune.session import TuneOptions, table, tune

    if not source:
        raise UsageError("no footage to tune on", "try `--source background.mp4`, or `--camera 0 --minutes 150`")
    options["bundle"] = options.get("bundle") or _usual_bundle()
    asked = TuneOptions(source=tuple(source), positives=tuple(positives or ()), **options)
    with StopSignals() as stop, progress_for(sys.stderr) as progress:
        outcome = tune(asked, stop, progress)
    if json:
        _print_json(msgspec.to_builtins(outcome))
        return OK
    for line in table(outcome):
        print(line)
    for note in outcome.notes:
        print(f"note: {note}")
    print(f"{outcome.thresholds}: written; {outcome.picture} shows what they rest on")
    return OK


def _capture(source: list[str] | None = None, out: str = "", json: bool = False, **options: Any) -> int:
    from pathlib import Path

    import msgspec

    from edgeclip.capture.session import CaptureOptions, capture
    from edgeclip.progress import progress_for
    from edgeclip.runtime.signals import StopSignals

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


def _teach(label: str, json: bool = False, bundle: str | None = None, shots: Sequence[str] = (), **options: Any) -> int:
    import msgspec

    from edgeclip.bundle import open_bundle
    from edgeclip.progress import progress_for
    from edgeclip.runtime.signals import StopSignals
    from edgeclip.state import state_dir
    from edgeclip.teach.session import TeachOptions, teach

    opened = open_bundle(bundle or _usual_bundle())
    with StopSignals() as stop, progress_for(sys.stderr) as progress:
        outcome = teach(TeachOptions(label, tuple(shots), **options), opened, state_dir(), stop, progress)
    if json:
        _print_json(msgspec.to_builtins(outcome))
        return OK
    again = f", {outcome.again} known before" if outcome.again else ""
    print(f"{outcome.label}: {outcome.new} new shots{again}; {outcome.shots - len(outcome.left_out)} in use")
    for shot in outcome.left_out:
        print(f"  left out {shot.id} {shot.origin}: {shot.left_out}")
    print(f"  look at {outcome.sheet}")
    if outcome.way is not None and outcome.text is not None and outcome.taught is not None:
        print(
            f"  among the {outcome.labels} taught labels, each shot left out in turn: text alone {outcome.text:.0%}, "
            f"taught {outcome.taught:.0%} ({outcome.way})"
        )
    if outcome.labels == 1:
        print(
            "  teach what it is to be told from as well, from the same camera: then the place itself counts for nothing"
        )
    print(f"  it refines the label {outcome.label!r}: have that line in the labels file")
    return OK


def _taught(bundle: str | None = None, json: bool = False) -> int:
    import msgspec

    from edgeclip.bundle import open_bundle
    from edgeclip.state import state_dir
    from edgeclip.teach.session import taught

    known = taught(open_bundle(bundle or _usual_bundle()), state_dir())
    if json:
        _print_json(msgspec.to_builtins(known))
        return OK
    for label in known.labels:
        print(f"{label.label}: {label.used} of {len(label.shots)} shots in use")
        for shot in label.shots:
            print(
                f"  {shot.id}  {shot.added}  {shot.origin}" + (f"  left out: {shot.left_out}" if shot.left_out else "")
            )
    if not known.labels:
        print('nothing was taught to this model: edgeclip teach "a coffee mug" shots/')
    for name, origins in known.elsewhere.items():
        print(f"{name}: taught to another model, and unknown to this one; {len(origins)} shots, from {origins[0]}")
    return OK


def _forget(label: str, shot: str | None = None, bundle: str | None = None, json: bool = False) -> int:
    from edgeclip.bundle import open_bundle
    from edgeclip.state import state_dir
    from edgeclip.teach.session import forget

    count = forget(label, shot, open_bundle(bundle or _usual_bundle()), state_dir())
    if json:
        _print_json({"label": label, "forgotten": count})
    else:
        print(f"{label}: {count} shots forgotten")
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


def _bundle(action: str, json: bool = False, **options: Any) -> int:
    from edgeclip.bundles import ACTIONS

    facts, lines = ACTIONS[action](**options)
    if json:
        _print_json(facts)
    else:
        print(*lines, sep="\n")
    return OK


def _bundle_install(json: bool = False, **options: Any) -> int:
    from edgeclip.bundles import install_bundles

    facts, lines, code = install_bundles(complain=_complain, **options)
    if json:
        _print_json(facts)
    elif lines:
        print(*lines, sep="\n")
    return code


def _help(words: Sequence[str] = ()) -> int:
    make_parser().parse_args([*words, "--help"])
    return OK


def _usual_bundle() -> str | None:
    """The bundle that the environment names, as for `run`; None for the one that comes with edgeclip."""
    return os.environ.get("EDGECLIP_BUNDLE") or None


def _print_json(value: Any) -> None:
    import json

    print(json.dumps(value, ensure_ascii=False))


COMMANDS: dict[str, Callable[..., int]] = {
    "run": _run,
    "labels check": _labels_check,
    "labels list": _labels_list,
    "labels embed": _labels_embed,
    "events list": _events_list,
    "events dead": _events_dead,
    "events show": _events_show,
    "events retry": _events_retry,
    "inspect": _inspect,
    "eval": _eval,
    "bench": _bench,
    "teach": _teach,
    "taught": _taught,
    "forget": _forget,
    "doctor": _doctor,
    "service install": _service_install,
    "service uninstall": _service_uninstall,
    "service status": _service_status,
    "service logs": _service_logs,
    "train": _train,
    "tune": _tune,
    "capture": _capture,
    "build": _build,
    "compile": _compile,
    "verify": _verify,
    "bundle install": _bundle_install,
    **{
        f"bundle {action}": functools.partial(_bundle, action)
        for action in ("sign", "verify", "list", "rollback", "confirm", "remove", "export", "keygen")
    },
    "help": _help,
}
