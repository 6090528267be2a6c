"""What can be typed: commands, options, types of values. Nothing is done here, and nothing heavy imported."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any, NoReturn

from edgeclip import __version__
from edgeclip.errors import UsageError

EPILOG = """\
exit codes:
  0   done; also after Ctrl-C or SIGTERM during `run` and `capture`
  2   usage: an option or argument is wrong
  65  bad data: bundle, labels, picture, data set
  69  unavailable: a source or an engine runtime cannot be had
  78  configuration: file, environment, or a place that cannot be written
"""

BUNDLE_HELP = "engine bundle, directory or .tar, or `current`, the installed one (default: nano)"
BACKEND_HELP = "engine runtime: litert, tflite-runtime, onnxruntime, openvino, tensorrt, tensorrt-rtx"


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
    _add_events(commands)
    _add_inspect(commands)
    _add_eval(commands)
    _add_bench(commands)
    _add_teach(commands)
    _add_taught(commands)
    _add_forget(commands)
    _add_doctor(commands)
    _add_service(commands)
    _add_train(commands)
    _add_tune(commands)
    _add_capture(commands)
    _add_build(commands)
    _add_compile(commands)
    _add_verify(commands)
    _add_bundle(commands)
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
        raise UsageError(message, f"did you mean `{near}`? {see}" if near else see)


def _nearest(word: str, known: Iterable[str]) -> str:
    import difflib

    return next(iter(difflib.get_close_matches(word, list(known), 1)), "")


def _add(commands: Any, command: str, help: str, description: str = "") -> argparse.ArgumentParser:
    """command: as it is typed, "labels check"; the parsed `command` says it."""
    parser: argparse.ArgumentParser = commands.add_parser(
        command.split()[-1], help=help, description=description or help, argument_default=argparse.SUPPRESS
    )
    parser.set_defaults(command=command)
    return parser


def _add_run(commands: Any) -> None:
    parser = _add(
        commands,
        "run",
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
    parser.add_argument(
        "--watch", metavar="FILE", help="watches.yaml: sentences to wait for, each on its own; watched while running"
    )
    parser.add_argument(
        "--unknown",
        type=_zero_or_more,
        metavar="RATE",
        help="share of frames that do show a label and may be called unknown, 0 to turn it off (default: 0.05)",
    )
    parser.add_argument("--bundle", metavar="PATH", help=BUNDLE_HELP)
    parser.add_argument("--fps", type=_positive, metavar="N", help="take at most N frames a second")
    parser.add_argument(
        "--max-temperature-c",
        type=_positive,
        metavar="C",
        help="fewer frames from 9 °C below (default: the board's own)",
    )
    parser.add_argument("--top", type=_count, metavar="K", help="labels to report, 0 for all (default: 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object per decision on standard output")
    parser.add_argument(
        "--sink",
        action="append",
        metavar="URI",
        help="jsonl:PATH, stdout:, lines:, table:, decisions:PATH; events of watches: jsonl:PATH, "
        "mqtt[s]://HOST/TOPIC, http[s]://HOST/PATH, command:PROGRAM; may be repeated (docs/events.md)",
    )
    parser.add_argument("--metrics", metavar="HOST:PORT", help="Prometheus metrics, /healthz and /readyz; off for none")
    parser.add_argument(
        "--give-up-s", type=_positive, metavar="S", help="put aside an event that a sink has not taken after S seconds"
    )
    parser.add_argument("--outbox-mb", type=_positive, metavar="MB", help="bound on undelivered events (default: 256)")
    parser.add_argument(
        "--media-mb", type=_zero_or_more, metavar="MB", help="bound on snapshots and clips, 0 for none (default: 512)"
    )
    parser.add_argument("--media-days", type=_positive, metavar="N", help="how long they are kept (default: 30)")
    parser.add_argument("--clip-before-s", type=_zero_or_more, metavar="S", help="of a clip, before (default: 3)")
    parser.add_argument("--clip-after-s", type=_zero_or_more, metavar="S", help="and after its event (default: 2)")
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
    _no_taught(parser)
    parser.add_argument("--gpu-preprocess", action="store_true", help="resize and crop on the GPU (CUDA)")
    parser.add_argument(
        "--config", metavar="FILE", help="YAML settings (or EDGECLIP_CONFIG); flags and environment come first"
    )


def _add_labels(commands: Any) -> None:
    group = commands.add_parser("labels", help="check, list or embed a label file", description="Label files.")
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    check = _add(
        actions,
        "labels check",
        "say whether a labels or watches file is well, and what in it a model can hardly tell apart",
        "Reads labels.txt or watches.yaml and compares its sentences by the model's own text embeddings. Exit code 0 "
        "also where some are nearly the same, 65 where the file cannot be read.",
    )
    listed = _add(actions, "labels list", "print the labels, with their own prompts")
    embed = _add(actions, "labels embed", "compute text embeddings now, so that `run` need not")
    for parser in (check, listed, embed):
        parser.add_argument("file", metavar="FILE", help="labels, one a line, or a watches.yaml")
    check.add_argument("--bundle", metavar="PATH", help=BUNDLE_HELP)
    check.add_argument("--json", action="store_true", help="one JSON object: counts and collisions")
    listed.add_argument("--json", action="store_true", help="one JSON object: label to prompts")
    embed.add_argument("--bundle", metavar="PATH", help=BUNDLE_HELP)
    embed.add_argument("--threads", type=_at_least_one, metavar="N", help="threads of the text engine")


def _add_events(commands: Any) -> None:
    group = commands.add_parser(
        "events", help="list, show or retry the events in the outbox", description="Events of watches, on this device."
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listed = _add(actions, "events list", "the newest messages, and how far they have come with every sink")
    dead = _add(actions, "events dead", "messages that a sink never took")
    show = _add(actions, "events show", "one event as it was sent, and how far it has come")
    retry = _add(actions, "events retry", "send again what a sink never took; a running service does it at once")
    for parser in (listed, dead):
        parser.add_argument("--limit", type=_at_least_one, metavar="N", help="the newest N (default: 50)")
    show.add_argument("event", metavar="ID", help="id of an event or of a message")
    retry.add_argument("event", nargs="?", metavar="ID", help="of this event or message alone (default: all)")
    for parser in (listed, dead, show):
        parser.add_argument("--json", action="store_true", help="one JSON object a line")
    for parser in (listed, dead, show, retry):
        parser.add_argument("--state", metavar="DIR", help="state directory (default: EDGECLIP_STATE, or the usual)")


def _add_inspect(commands: Any) -> None:
    parser = _add(commands, "inspect", "check a bundle and say what it holds")
    parser.add_argument("bundle", nargs="?", metavar="BUNDLE", help=BUNDLE_HELP)
    parser.add_argument("--json", action="store_true", help="manifest, files and report as one JSON object")
    parser.add_argument(
        "--edgetpu-compatible",
        action="store_true",
        help="name every operator of the TFLite image engine that a Coral Edge TPU leaves to the CPU; exit code 65 "
        "where one of them is in the way",
    )


def _add_doctor(commands: Any) -> None:
    parser = _add(
        commands,
        "doctor",
        "say what this machine can and cannot do, and how to mend it",
        "Tries every engine of the bundle on every runtime installed. Exit code 69 where `run` cannot work.",
    )
    parser.add_argument("--bundle", metavar="PATH", help=BUNDLE_HELP)
    parser.add_argument("--json", action="store_true", help="all checks as a JSON list")


def _add_service(commands: Any) -> None:
    group = commands.add_parser("service", help="install the systemd service, or say how it is", description="systemd.")
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    install = _add(
        actions,
        "service install",
        "put the unit, its user and its configuration in place; safe to repeat",
        "Configuration that is there stays. Run it again after adding a file to /etc/edgeclip/credentials.",
    )
    uninstall = _add(actions, "service uninstall", "take it away; configuration and state stay")
    for parser in (install, uninstall):
        parser.add_argument("--root", metavar="DIR", help="of an image that is being made, instead of this system")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    install.add_argument("--exec", dest="executable", metavar="PATH", help="edgeclip's, as the service will see it")
    install.add_argument(
        "--gpu", action=argparse.BooleanOptionalAction, help="access to NVIDIA devices (default: where there are any)"
    )
    install.add_argument("--now", action="store_true", help="start it too")
    status = _add(actions, "service status", "how it is; exit code 69 where it is not active")
    status.add_argument("--json", action="store_true", help="systemd's properties as one JSON object")
    logs = _add(actions, "service logs", "its lines in the journal")
    logs.add_argument("--lines", type=_at_least_one, metavar="N", help="the last N (default: 50)")
    logs.add_argument("--follow", action="store_true", help="and those to come")


def _add_verify(commands: Any) -> None:
    parser = _add(
        commands,
        "verify",
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
        "measure a bundle on labelled pictures",
        "Zero-shot top-1 and top-5, and retrieval R@1/5/10 where pictures have captions.",
    )
    parser.add_argument("data", metavar="DATA", help="folder of class folders, or tar shards of picture + .json")
    parser.add_argument("--labels", metavar="FILE", help="label set to choose from (default: the data's own)")
    parser.add_argument("--bundle", metavar="PATH", help=BUNDLE_HELP)
    parser.add_argument("--backend", metavar="NAME", help=BACKEND_HELP)
    parser.add_argument("--threads", type=_at_least_one, metavar="N", help="threads of the engines")
    _no_taught(parser)
    parser.add_argument("--json", action="store_true", help="all figures as one JSON object")


def _no_taught(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-taught", dest="taught", action="store_false", help="words alone, without taught pictures")


def _add_teach(commands: Any) -> None:
    parser = _add(
        commands,
        "teach",
        "teach a label with a few pictures, for `run` and `eval`",
        "Pictures refine the label of that name wherever it is asked for, at once also in a `run` that is going on. "
        "Nothing is trained. Pictures that do not fit the others are left out, and shown. What is kept are embeddings "
        "and thumbnails, in the state directory (EDGECLIP_STATE).",
    )
    parser.add_argument("label", metavar="LABEL", help="its name, as in the labels file")
    parser.add_argument("shots", nargs="*", metavar="SHOTS", help="pictures, folders of them, 'patterns*.jpg'")
    parser.add_argument("--camera", dest="source", type=_camera, metavar="N", help="or look at a camera")
    parser.add_argument("--source", metavar="URI", help="or at any source, as for `run`")
    parser.add_argument("--seconds", type=_positive, metavar="S", help="of the source (default: 10)")
    parser.add_argument("--frames", type=_at_least_one, metavar="N", help="to keep of these, the most different (16)")
    parser.add_argument("--keep-all", action="store_true", help="leave none out")
    _add_taught_options(parser)
    parser.add_argument("--backend", metavar="NAME", help=BACKEND_HELP)
    parser.add_argument("--threads", type=_at_least_one, metavar="N", help="threads of the engines")


def _add_taught(commands: Any) -> None:
    parser = _add(commands, "taught", "list the labels that were taught, and their shots")
    _add_taught_options(parser)


def _add_forget(commands: Any) -> None:
    parser = _add(commands, "forget", "take a taught label, or one of its shots, out again")
    parser.add_argument("label", metavar="LABEL", help="its name")
    parser.add_argument("--shot", metavar="ID", help="this one alone; `edgeclip taught` lists them")
    _add_taught_options(parser)


def _add_taught_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", metavar="PATH", help=BUNDLE_HELP)
    parser.add_argument("--json", action="store_true", help="the outcome as one JSON object")


def _add_bench(commands: Any) -> None:
    parser = _add(
        commands,
        "bench",
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
        "train both towers from pairs of pictures and texts",
        "Train an image and a text tower from pairs: tar shards, class folders, or a CSV of path,text. Each epoch is "
        "measured on the dev set and added to DIR/history.jsonl and DIR/curves.png; the end is "
        "DIR/checkpoint.safetensors, which `edgeclip build` takes. A run that was stopped, even by kill -9, goes on "
        "with --resume. engines/nano-train.yaml is an example of CONFIG.yaml.",
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="data, towers, teachers and phases of training")
    parser.add_argument("--out", metavar="DIR", help="state, checkpoint, history and curves (default: runs/CONFIG)")
    parser.add_argument("--resume", action="store_true", help="go on where the run in the same DIR stopped")


def _add_tune(commands: Any) -> None:
    parser = _add(
        commands,
        "tune",
        "fit the thresholds of watches to a stated rate of false alarms",
        "Watch background footage, in which nothing that is watched for happens, and fit each watch's thresholds: "
        "the upper end of the interval of its false-alarm rate keeps the promise. They are written beside the watches "
        "file, with their evidence and a picture. Footage that cannot support the promise is refused (exit code 65), "
        "and nothing is written.",
    )
    parser.add_argument(
        "--camera", dest="source", action="append", type=_camera, metavar="N", help="camera number; may be repeated"
    )
    parser.add_argument(
        "--source", action="append", metavar="URI", help="background: as for `run`, or a folder of clips; repeatable"
    )
    parser.add_argument("--watch", required=True, metavar="FILE", help="watches.yaml")
    parser.add_argument(
        "--false-alarms",
        required=True,
        metavar="RATE",
        help="of each watch and camera: 1/day, 2/week, 1/hour, 1/6h",
    )
    parser.add_argument(
        "--positives",
        action="append",
        metavar="[WATCH=]PATH",
        help="clips or pictures of what a watch waits for: how many it finds at that rate; repeatable",
    )
    parser.add_argument("--fps", type=_positive, metavar="N", help="take N frames a second, as the run will")
    parser.add_argument("--minutes", type=_positive, metavar="M", help="of live sources: end after M minutes")
    parser.add_argument("--bundle", metavar="PATH", help=BUNDLE_HELP)
    parser.add_argument(
        "--out", metavar="FILE", help="thresholds file (default: WATCHES.thresholds.json, beside the watches)"
    )
    parser.add_argument("--backend", metavar="NAME", help=BACKEND_HELP)
    parser.add_argument("--threads", type=_at_least_one, metavar="N", help="threads of the image engine")
    parser.add_argument("--json", action="store_true", help="the outcome as one JSON object")


def _add_capture(commands: Any) -> None:
    parser = _add(
        commands,
        "capture",
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
    parser.add_argument(
        "--edgetpu-compatible",
        action="store_true",
        help="quantize for a Coral Edge TPU (calibration/edgetpu.yaml), and refuse a tower that does not fit it",
    )


def _add_compile(commands: Any) -> None:
    parser = _add(
        commands,
        "compile",
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


def _add_bundle(commands: Any) -> None:
    group = commands.add_parser(
        "bundle",
        help="install bundles over the air, sign them, go back to the one before",
        description="Bundles over the air (docs/ota.md). `edgeclip run --bundle current` runs the one in force.",
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    install = _add(
        actions,
        "bundle install",
        "check a bundle, test it on this device, and put it in force, on probation",
        "Exit code 65 where it is refused: nothing is written then, and the bundle in force stays. 69 where the disk "
        "is too small or another installation goes on, 78 where keys are missing.",
    )
    listed = _add(actions, "bundle list", "say what is installed, what is in force, and what was rolled back and why")
    verify = _add(actions, "bundle verify", "check a bundle and its signatures; nothing is run or written")
    rollback = _add(actions, "bundle rollback", "put the bundle before in force again")
    confirm = _add(actions, "bundle confirm", "trust the bundle in force from now on: end its probation")
    remove = _add(actions, "bundle remove", "remove a bundle that is not in force")
    export = _add(actions, "bundle export", "write a bundle as one .tar, or a directory")
    sign = _add(actions, "bundle sign", "add an Ed25519 signature")
    keygen = _add(actions, "bundle keygen", "make a key to sign with")
    install.add_argument("bundle", nargs="+", metavar="BUNDLE", help="bundle, directory or .tar")
    verify.add_argument("bundle", metavar="BUNDLE", help="bundle, directory or .tar")
    sign.add_argument("bundle", nargs="+", metavar="BUNDLE", help="bundle, directory or .tar")
    export.add_argument("bundle", nargs="?", metavar="BUNDLE", help="of the store, or a path (default: current)")
    remove.add_argument("name", nargs="+", metavar="NAME", help="as `edgeclip bundle list` names it")
    for parser in (install, verify):
        parser.add_argument(
            "--keys", metavar="DIR", help="public keys that are trusted (default: /etc/edgeclip/keys.d)"
        )
        parser.add_argument("--require-signature", action="store_true", help="refuse what no trusted key has signed")
        parser.add_argument(
            "--config", metavar="FILE", help="settings (default: /etc/edgeclip/edgeclip.yaml, if there)"
        )
    install.add_argument("--new-space", action="store_true", help="also of another embedding space than the one before")
    install.add_argument("--test-timeout", type=_positive, metavar="S", help="of the self-test (default: 120)")
    install.add_argument("--test-memory", type=_at_least_one, metavar="MB", help="of the self-test (default: 2048)")
    export.add_argument("--out", required=True, metavar="FILE.tar", help="where it goes")
    sign.add_argument("--key", required=True, metavar="FILE.pem", help="private Ed25519 key")
    keygen.add_argument("--out", required=True, metavar="FILE.pem", help="the private key; NAME.pub.pem goes beside it")
    for parser in (install, listed, rollback, confirm, remove, export):
        parser.add_argument(
            "--store", metavar="DIR", help="where bundles are installed (default: the state directory's)"
        )
    for parser in (install, listed, verify, rollback, confirm, remove, export, sign, keygen):
        parser.add_argument("--json", action="store_true", help="the outcome as JSON")


def _triple(text: str) -> tuple[float, float, float]:
    values = [_number(part) for part in text.split(",")]
    if len(values) != 3 or not all(0.0 <= value <= 1.0 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers from 0 to 1: --mean 0.48,0.46,0.41")
    return values[0], values[1], values[2]


def _add_help(commands: Any) -> None:
    parser = _add(commands, "help", "say how edgeclip, or one of its commands, is used")
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
