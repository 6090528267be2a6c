from __future__ import annotations

import argparse
import errno
import importlib
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from pkgutil import iter_modules

import cv2
import numpy as np
import pytest
from clips import write_clip
from rtsp_server import RtspServer

from edgeclip import commands
from edgeclip.cli import COMMANDS, main, make_parser
from edgeclip.errors import BAD_DATA, CONFIGURATION, UNAVAILABLE, USAGE

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("EDGECLIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EDGECLIP_CACHE", str(tmp_path / "cache"))


def complaint(capsys: Captured) -> str:
    """What was said on standard error: at most an error and its remedy, and never a traceback."""
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert said.err.startswith("error: ")
    assert len(said.err.splitlines()) <= 2
    return said.err


# -- usage -------------------------------------------------------------------------------------------------------------


def test_help_documents_the_exit_codes(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for code in (0, 2, 65, 69, 78):
        assert re.search(rf"^  {code} ", text, re.MULTILINE)


def test_no_command_is_a_usage_error_with_help(capsys: Captured) -> None:
    assert main([]) == USAGE
    assert "commands:" in capsys.readouterr().out


def test_help_is_fast() -> None:
    """Under 100 ms on a quiet machine; here only against a bare interpreter, three times its start and some."""

    def seconds(*arguments: str) -> float:
        began_s = time.perf_counter()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - began_s

    bare_s = min(seconds("-c", "pass") for _ in range(5))
    assert min(seconds("-m", "edgeclip", "--help") for _ in range(5)) < 4 * bare_s + 0.1


def test_a_run_without_a_source_suggests_two(capsys: Captured) -> None:
    assert main(["run"]) == USAGE
    said = complaint(capsys)
    assert "--camera 0" in said
    assert "--source demo" in said


@pytest.mark.parametrize(
    "options",
    [
        "--fps 0",
        "--fps many",
        "--fps nan",
        "--top -1",
        "--max-frames 0",
        "--threads 0",
        "--camera /dev/video0",
        "--nope",
    ],
)
def test_wrong_options_are_usage_errors(options: str, capsys: Captured) -> None:
    assert main(["run", "--source", "demo", *options.split()]) == USAGE
    assert options.split()[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said", "meant"),
    [
        ("rnu --source demo", "rnu is no command of edgeclip", "`run`"),
        ("labels chek x", "chek is no command of edgeclip labels", "`check`"),
        ("run --lables x.txt", "--lables is no option", "`--labels`"),
        ("run --max-frame=1 --snapshto=x.png", "--snapshto=x.png is no option", "`--snapshot`"),
        ("inspect a b", "b is no option or argument of `edgeclip inspect`", ""),
        ("xyzzy", "xyzzy is no command", ""),
        ("labels check", "required: FILE", ""),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest(words: str, said: str, meant: str, capsys: Captured) -> None:
    assert main(words.split()) == USAGE
    told = complaint(capsys)
    assert said in told
    assert ("did you mean" in told) == bool(meant)
    assert meant in told
    assert "--help` lists" in told


@pytest.mark.parametrize("words", ["run clip.mp4", "run --source a.jpg b.jpg --label dog", "capture clip.mp4 --out x"])
def test_a_source_without_its_option_is_told_the_option(words: str, capsys: Captured) -> None:
    assert main(words.split()) == USAGE
    said = complaint(capsys)
    assert re.search(r"its option: --source (clip\.mp4|b\.jpg)", said)
    assert "quoted" in said


def test_help_explains_every_option_and_argument() -> None:
    def explained(parser: argparse.ArgumentParser) -> Iterator[str]:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for below in action.choices.values():
                    yield from explained(below)
            else:
                assert action.help, f"{parser.prog}: {action.option_strings or action.dest}"
                yield action.help

    assert len(list(explained(make_parser()))) > 150


@pytest.mark.parametrize(("words", "shown"), [("", "commands:"), ("run", "--camera"), ("labels embed", "--bundle")])
def test_help_is_also_a_command(words: str, shown: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["help", *words.split()])
    assert ended.value.code == 0
    assert shown in capsys.readouterr().out


def test_every_command_that_can_be_added_is_in_the_table() -> None:
    families = [importlib.import_module(f"edgeclip.commands.{found.name}") for found in iter_modules(commands.__path__)]
    offered = {name for family in families for name, add in vars(family).items() if takes_commands_alone(add)}
    assert len(offered) > 15
    assert offered | {"_add_help"} == {add.__name__ for add in COMMANDS}


def takes_commands_alone(add: object) -> bool:
    return inspect.isfunction(add) and list(inspect.signature(add).parameters) == ["commands"]


def test_cameras_and_sources_mix_in_the_order_given() -> None:
    arguments = make_parser().parse_args(["run", "--camera", "1", "--source", "demo", "--camera", "0"])
    assert arguments.source == ["camera:1", "demo", "camera:0"]


def test_every_run_option_is_a_config_key_and_every_key_an_option_or_a_time_out() -> None:
    from edgeclip.config import FIELDS

    options = "--json --realtime --wait --source x --labels x --label x --bundle x --fps 1 --top 1 --sink x --record x"
    options += " --max-temperature-c 80"
    options += " --snapshot x --max-frames 1 --threads 1 --backend x --smoothing 1 --recompile --gpu-preprocess"
    options += " --watch x --unknown 0 --metrics off --give-up-s 1 --outbox-mb 1 --media-mb 0 --media-days 1"
    options += " --clip-before-s 1 --clip-after-s 1 --no-taught"
    given = vars(make_parser().parse_args(["run", *options.split()]))
    not_typed = {key for key in FIELDS if key.endswith("_timeout_s")}
    not_typed |= {"require_signature", "keys", "probation_s"}  # policy of the device
    assert set(given) - {"command"} == set(FIELDS) - not_typed


# -- mistakes ----------------------------------------------------------------------------------------------------------


def test_a_mistake_in_the_configuration_names_file_and_line(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "edgeclip.yaml"
    path.write_text("source: demo\nlables: labels.txt\n")
    assert main(["run", "--config", str(path)]) == CONFIGURATION
    said = complaint(capsys)
    assert f"{path}:2" in said
    assert "labels" in said


def test_a_mistake_in_the_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("EDGECLIP_FSP", "3")
    assert main(["run", "--source", "demo"]) == CONFIGURATION
    assert "EDGECLIP_FPS" in complaint(capsys)


@pytest.mark.parametrize("options", ["--label=", "--fps=2000", "--threads=1000", "--bundle=", "--smoothing=9999"])
def test_a_value_that_no_run_can_have_is_a_usage_error(options: str, capsys: Captured) -> None:
    assert main(["run", "--source", "demo", options]) == USAGE
    assert options.partition("=")[0] in complaint(capsys)


@pytest.mark.parametrize("module", ["cv2", "numpy", "msgspec", "ai_edge_litert", "yaml"])
def test_a_missing_dependency_is_named_with_its_remedy(
    module: str, tiny_path: Path, clip: Path, tmp_path: Path
) -> None:
    config = tmp_path / "edgeclip.yaml"
    config.write_text(f"source: {clip}\nlabel: [dog, cat]\nbundle: {tiny_path}\n")
    code = f"""
import sys
for name in ({module!r}, "tflite_runtime", "onnxruntime", "openvino"):
    sys.modules[name] = None
from edgeclip.cli import main
sys.exit(main(["run", "--config", {str(config)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (UNAVAILABLE, "")
    first, fix = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert module in first
    assert "pip install" in fix


@pytest.mark.parametrize("name", ["truncated.jpg", "truncated.png", "zero.jpg", "text.jpg", "empty/", "no-frames.mp4"])
def test_what_shows_nothing_is_bad_data_in_one_message(name: str, tiny_path: Path, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    content = {"zero.jpg": b"", "text.jpg": b"not a picture"}
    for suffix in (".jpg", ".png"):
        whole = cv2.imencode(suffix, picture)[1].tobytes()
        content[f"truncated{suffix}"] = whole[: len(whole) // 2]
    path = tmp_path / name
    if name.endswith("/"):
        path.mkdir()
    elif name.endswith(".mp4"):
        cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 64)).release()
    else:
        path.write_bytes(content[name])
    done = subprocess.run(
        program("run", "--source", path, "--label", "dog", "--label", "cat", "--bundle", tiny_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (BAD_DATA, "")
    assert len(done.stderr.splitlines()) == 2, done.stderr
    assert done.stderr.startswith(f"error: {tmp_path / name}")


def test_a_directory_that_may_not_be_read_is_named(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    closed, listed = tmp_path / "closed", Path.iterdir
    shutil.copytree(tiny_path, closed)

    def refuse(path: Path) -> Iterator[Path]:  # root, as in many containers, could read it whatever its mode
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    for words in (["run", "--source", closed], ["inspect", closed], ["eval", closed, "--bundle", tiny_path]):
        assert main([str(word) for word in words]) == BAD_DATA
        assert f"error: {closed}: permission denied" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_told_and_a_full_disk_may_be_tried_again(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    (tmp_path / "file").touch()
    export = ["bundle", "export", str(tiny_path), "--out"]
    assert main([*export, str(tmp_path / "file" / "x.tar")]) == CONFIGURATION
    assert str(tmp_path / "file") in complaint(capsys)

    def full(**options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(options["dir"]))

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert main([*export, str(tmp_path / "folder" / "x.tar")]) == UNAVAILABLE
    assert "No space left on device" in complaint(capsys)


def test_what_is_no_bundle_archive_is_bad_data_in_one_message(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "bundle.tar"
    path.write_bytes(b"not an archive" * 1000)
    assert main(["run", "--source", "demo", "--bundle", str(path)]) == BAD_DATA
    assert str(path) in complaint(capsys)


def test_a_missing_source_is_unavailable(capsys: Captured) -> None:
    assert main(["run", "--source", "/no/such/clip.mp4"]) == UNAVAILABLE
    assert "/no/such/clip.mp4" in complaint(capsys)


def test_a_password_is_never_said(capsys: Captured) -> None:
    assert main(["run", "--source", "gopher://me:secret@camera/x"]) == UNAVAILABLE
    assert "secret" not in complaint(capsys)


def test_a_missing_bundle_is_bad_data(tmp_path: Path, capsys: Captured) -> None:
    assert main(["run", "--source", "demo", "--bundle", str(tmp_path / "none")]) == BAD_DATA
    assert str(tmp_path / "none") in complaint(capsys)


# -- labels ------------------------------------------------------------------------------------------------------------


def test_labels_check(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog: a dog | a puppy\n")
    assert main(["labels", "check", str(path)]) == 0
    assert "2 labels" in capsys.readouterr().out
    path.write_text("cat\n\ncat\n")
    assert main(["labels", "check", str(path)]) == BAD_DATA
    assert f"{path}:3" in complaint(capsys)


def test_labels_and_watches_that_were_mixed_up_are_told(tmp_path: Path, capsys: Captured) -> None:
    labels, watches = tmp_path / "labels.txt", tmp_path / "watches.yaml"
    labels.write_text("cat\n")
    watches.write_text("watches: [{name: cat}]\n")
    for option, path, other in (("--labels", watches, "--watch"), ("--watch", labels, "--labels")):
        assert main(["run", "--source", "demo", option, str(path)]) == BAD_DATA
        assert f"{other} {path}" in complaint(capsys)


def test_labels_list(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("Käse\ndog: a dog | a puppy\n", encoding="utf-8")
    assert main(["labels", "list", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == ["Käse", "dog: a dog | a puppy"]
    assert main(["labels", "list", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"Käse": [], "dog": ["a dog", "a puppy"]}


def test_the_built_in_labels_are_well(capsys: Captured) -> None:
    import edgeclip

    assert main(["labels", "check", str(Path(edgeclip.__file__).parent / "data" / "everyday.txt")]) == 0


# -- with a real engine ------------------------------------------------------------------------------------------------


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("dog\ncat\nred cup\n")
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", frames=25)


def program(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edgeclip", *map(str, arguments)]


def test_json_is_one_object_per_frame_and_none_is_lost(
    tiny_path: Path, clip: Path, labels: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--source", str(clip), "--labels", str(labels), "--bundle", str(tiny_path), "--json"]) == 0
    said = capfd.readouterr()
    objects = [json.loads(line) for line in said.out.splitlines()]
    assert [one["frame"] for one in objects] == list(range(25))
    assert all(set(one["scores"]) == {"dog", "cat", "red cup"} for one in objects)
    best = [max(one["scores"], key=one["scores"].get) if one["unknown"] < 0.5 else "unknown" for one in objects]
    assert [one["label"] for one in objects] == best
    assert "25 frames" in said.err


def test_a_run_from_a_config_file_and_the_environment(
    tiny_path: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "edgeclip.yaml", tmp_path / "out.jsonl"
    config.write_text(f"source: {clip}\nlabel: [dog, cat]\nsink: 'jsonl:{out}'\nmax_frames: 20\n")
    monkeypatch.setenv("EDGECLIP_BUNDLE", str(tiny_path))
    monkeypatch.setenv("EDGECLIP_TOP", "1")
    assert main(["run", "--config", str(config), "--max-frames", "3"]) == 0
    objects = [json.loads(line) for line in out.read_text().splitlines()]
    assert [len(one["scores"]) for one in objects] == [1, 1, 1]
    assert "clip.mp4  frame 0" in capfd.readouterr().out


def test_pictures_get_a_line_each_a_recording_and_a_snapshot(
    tiny_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shots"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((120, 160, 3), 80 * number, np.uint8))
    options = ["--label", "dog", "--label", "cat", "--bundle", tiny_path]
    options += ["--record", tmp_path / "out.mp4", "--snapshot", tmp_path / "out.png"]
    assert main(["run", "--source", str(folder), *map(str, options)]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 3
    assert cv2.imread(str(tmp_path / "out.png"))[0, 0].tolist() == [160, 160, 160]
    assert cv2.VideoCapture(str(tmp_path / "out.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_without_labels_the_everyday_ones_are_used_and_said(
    tiny_path: Path, clip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--source", str(clip), "--bundle", str(tiny_path), "--max-frames", "1"]) == 0
    assert "built-in everyday" in capfd.readouterr().err


def test_a_missing_camera_is_unavailable_in_one_message(
    tiny_path: Path, labels: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--camera", "63", "--labels", str(labels), "--bundle", str(tiny_path)]) == UNAVAILABLE
    assert "/dev/video63" in complaint(capfd)  # and nothing of OpenCV's or FFmpeg's own


def test_a_damaged_bundle_is_bad_data(tiny_path: Path, clip: Path, tmp_path: Path, capsys: Captured) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_path, copy)
    with (copy / "image.tflite").open("r+b") as stream:
        stream.seek(100)
        stream.write(b"damage")
    assert main(["run", "--source", str(clip), "--bundle", str(copy)]) == BAD_DATA
    assert "image.tflite" in complaint(capsys)


def test_an_unknown_sink_is_a_usage_error_that_lists_the_known(tiny_path: Path, clip: Path, capsys: Captured) -> None:
    options = ["--source", str(clip), "--label", "dog", "--bundle", str(tiny_path), "--sink", "mqqts://broker"]
    assert main(["run", *options]) == USAGE
    assert "jsonl:PATH" in complaint(capsys)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_cleanly_with_a_summary(
    number: signal.Signals, tiny_path: Path, labels: Path, tmp_path: Path, rtsp: RtspServer
) -> None:
    recording = tmp_path / "out.mp4"
    options = ("--source", rtsp.url, "--labels", labels, "--bundle", tiny_path, "--json", "--record", recording)
    with subprocess.Popen(program("run", *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        for _ in range(3):
            json.loads(child.stdout.readline())
        child.send_signal(number)
        out, err = child.communicate(timeout=20)
    assert child.returncode == 0
    assert re.search(rb"^edgeclip: \d+ frames in .* fps, .* dropped, frame age p50 .* p95", err, re.MULTILINE)
    assert b"Traceback" not in err
    assert all(json.loads(line) for line in out.splitlines())
    assert cv2.VideoCapture(str(recording)).read()[0]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("form", ["--json", "--top 1"])
def test_a_closed_stream_is_no_trouble(closed: str, form: str, tiny_path: Path, clip: Path, tmp_path: Path) -> None:
    words = program("run", "--source", clip, "--label", "dog", "--bundle", tiny_path, *form.split())
    words += ["--sink", f"decisions:{tmp_path / 'out.jsonl'}"]
    done = subprocess.run(
        ["sh", "-c", f"{shlex.join(words)} {closed}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(range(25))  # and nothing else was written into it


def test_a_bad_picture_in_a_folder_is_told_after_all_others(
    tiny_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shots"
    folder.mkdir()
    for number in (1, 3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((120, 160, 3), 80 * number, np.uint8))
    (folder / "2.png").write_bytes(b"no picture")
    options = ["--label", "dog", "--bundle", str(tiny_path), "--json", "--snapshot", str(tmp_path / "out.png")]
    assert main(["run", "--source", str(folder), *options]) == BAD_DATA
    said = capfd.readouterr()
    named = [json.loads(line)["picture"] for line in said.out.splitlines()]
    assert named == [str(folder / "1.png"), str(folder / "3.png")]
    assert "1 of 3 pictures could not be read" in said.err
    assert cv2.imread(str(tmp_path / "out.png"))[0, 0].tolist() == [240, 240, 240]


@pytest.mark.parametrize("moment", ["edgeclip.commands", "argparse"])
def test_ctrl_c_before_there_is_a_command_ends_it_quietly(moment: str) -> None:
    code = f"""
import argparse, sys, edgeclip.__main__ as program
class Interrupting:
    def find_spec(self, name, *_):
        if name == {moment!r}:
            raise KeyboardInterrupt
if {moment!r} == "argparse":
    def interrupt(*_, **__):
        raise KeyboardInterrupt
    argparse.ArgumentParser.add_subparsers = interrupt
else:
    sys.meta_path.insert(0, Interrupting())
sys.exit(program.start())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_ends_the_run_quietly(tiny_path: Path, clip: Path, labels: Path) -> None:
    options = ("--source", clip, "--labels", labels, "--bundle", tiny_path, "--realtime", "--json")
    with subprocess.Popen(program("run", *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.wait(20) == 0
        assert child.stderr.read() == b""


def test_labels_edited_during_a_run_come_into_force_and_bad_edits_do_not(
    tiny_path: Path, labels: Path, rtsp: RtspServer
) -> None:
    options = ("--source", rtsp.url, "--labels", labels, "--bundle", tiny_path, "--json")
    with subprocess.Popen(program("run", *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        stdout = child.stdout
        assert stdout is not None

        def wait_for(names: set[str]) -> None:
            deadline_s = time.monotonic() + 20
            while set(json.loads(stdout.readline())["scores"]) != names:
                assert time.monotonic() < deadline_s

        try:
            wait_for({"dog", "cat", "red cup"})
            labels.write_text("dog\ndog\n")
            time.sleep(2)
            labels.write_text("tree\nhouse\n")
            wait_for({"tree", "house"})
        finally:
            child.terminate()
            _, err = child.communicate(timeout=20)
    assert err.count(b"the old ones stay") == 1
    assert b"labels.txt:2" in err


def test_watches_edited_during_a_run_come_into_force_within_a_second_and_bad_edits_do_not(
    tiny_path: Path, tmp_path: Path, rtsp: RtspServer
) -> None:
    path = tmp_path / "watches.yaml"
    path.write_text("labels: [dog, cat]\nwatches: [{name: red cup}]\n")
    options = ("--source", rtsp.url, "--watch", path, "--bundle", tiny_path, "--json")
    with subprocess.Popen(program("run", *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        stdout = child.stdout
        assert stdout is not None

        def wait_for(watches: set[str], labels: set[str]) -> float:
            began_s = time.monotonic()
            while True:
                one = json.loads(stdout.readline())
                now = set(one["watches"]), set(one["scores"])
                assert now in (({"red cup"}, {"dog", "cat"}), (watches, labels)), "half of an edit is in force"
                if now == (watches, labels):
                    return time.monotonic() - began_s
                assert time.monotonic() < began_s + 20

        try:
            wait_for({"red cup"}, {"dog", "cat"})
            path.write_text("watches:\n  - name: red cup\n    entr: 0.9\n")
            time.sleep(2)
            path.write_text("labels: [tree]\nwatches: [{name: house, region: {box: [0, 0, 0.5, 1]}}, {name: dog}]\n")
            assert wait_for({"house", "dog"}, {"tree"}) < 10  # a second where nothing else runs
        finally:
            child.terminate()
            _, err = child.communicate(timeout=20)
    assert err.count(b"watches not changed, the old ones stay") == 1
    assert b"watches.yaml:3: unknown key `watches.0.entr` (did you mean `enter`?)" in err
    assert b"watches changed: 2 watches and 1 labels in force" in err


def test_watches_alone_and_beside_labels(
    tiny_path: Path, clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "watches.yaml"
    path.write_text("watches: [{name: red cup, negatives: a tree}]\n")
    words = ["run", "--source", str(clip), "--watch", str(path), "--bundle", str(tiny_path), "--max-frames", "2"]
    assert main([*words, "--json"]) == 0
    one = json.loads(capfd.readouterr().out.splitlines()[0])
    assert (one["label"], one["scores"], set(one["watches"])) == (None, {}, {"red cup"})
    assert main(words) == 0
    assert "red cup" in capfd.readouterr().out
    assert main([*words, "--json", "--label", "dog", "--unknown", "0"]) == 0
    one = json.loads(capfd.readouterr().out.splitlines()[0])
    assert (one["label"], one["unknown"]) == ("dog", 0.0)
    path.write_text("labels: [tree]\n")
    assert main([*words, "--label", "dog"]) == USAGE
    path.write_text("watches: [{nme: x}]\n")
    capfd.readouterr()
    assert main(words) == BAD_DATA
    assert "did you mean `name`" in capfd.readouterr().err


def test_labels_check_says_which_sentences_are_the_same_to_the_model(
    tiny_path: Path, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("dog\n\ncat\nhound: a photo of a dog | dog\n")
    words = ["labels", "check", str(path), "--bundle", str(tiny_path)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "3 labels" in said
    assert re.search(r"lines 1 and 4: 'dog' and 'hound' are nearly the same sentence to tiny: (1\.00|0\.9\d)", said)
    assert main([*words, "--json"]) == 0
    assert [one["kind"] for one in json.loads(capsys.readouterr().out)["collisions"]].count("labels") >= 1
    path.write_text("dog\ndog\n")
    assert main(words) == BAD_DATA


def test_running_loads_neither_torch_nor_onnx(tiny_path: Path, clip: Path, labels: Path) -> None:
    words = ["run", "--source", clip, "--labels", labels, "--bundle", tiny_path, "--max-frames", "2", "--json"]
    code = f"""
import sys
from edgeclip.cli import main
code = main({[str(word) for word in words]!r})
print(*sorted({{name.partition(".")[0] for name in sys.modules}}), file=sys.stderr)
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "cv2" in done.stderr
    assert not {"torch", "onnx", "onnxruntime", "PIL", "skimage", "rich"} & set(done.stderr.split())


def test_labels_embed_fills_the_cache(tiny_path: Path, labels: Path, capsys: Captured) -> None:
    assert main(["labels", "embed", str(labels), "--bundle", str(tiny_path)]) == 0
    assert "3 labels are embedded for tiny" in capsys.readouterr().out


def test_eval_says_its_figures_as_json_and_as_text(tiny_path: Path, tmp_path: Path, capsys: Captured) -> None:
    for number, name in enumerate(("dog", "cat")):
        (tmp_path / "data" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "data" / name / "0.png"), np.full((40, 40, 3), 200 * number, np.uint8))
    arguments = ["eval", str(tmp_path / "data"), "--bundle", str(tiny_path)]
    assert main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["n"] == 2
    assert 0 <= figures["top1"] <= figures["top5"] == 1
    assert main(arguments) == 0
    assert "of 2 pictures among 2 labels" in capsys.readouterr().out
    (tmp_path / "labels.txt").write_text("dog\n")
    assert main([*arguments, "--labels", str(tmp_path / "labels.txt")]) == 0
    assert "left out: 1 pictures" in capsys.readouterr().out


def test_inspect(tiny_path: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["inspect", str(tiny_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "tiny"
    assert main(["inspect", str(tiny_path)]) == 0
    assert "image.tflite" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path)]) == BAD_DATA
    assert "not an edgeclip bundle" in complaint(capsys)


def test_doctor(tiny_path: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["doctor", "--bundle", str(tiny_path), "--json"]) == 0
    assert {"ok"} <= {check["status"] for check in json.loads(capsys.readouterr().out)} <= {"ok", "warn"}
    assert main(["doctor", "--bundle", str(tmp_path / "none")]) == UNAVAILABLE
    assert re.search(r"^fail +bundle: .*none", capsys.readouterr().out, re.MULTILINE)


def test_verify(tiny_path: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["verify", str(tiny_path), "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["passed"]
    assert {engine["file"] for engine in verdict["engines"]} == {"image.tflite", "image.onnx"}


def test_bench(tiny_path: Path, clip: Path, capsys: Captured) -> None:
    arguments = ["bench", "--bundle", str(tiny_path), "--source", str(clip), "--seconds", "0.5"]
    assert main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["pipeline_fps"] > 0
    assert {"source", "preprocess", "engine", "sinks"} <= set(figures["stages"])
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"^\w+ +[\d.]+ +[\d.]+  slowest$", said, re.MULTILINE)) == 1
    assert re.search(r"bare engine .* fps .*preprocessing alone [\d.]+ fps$", said, re.MULTILINE)
    assert re.search(r"^the (host|engine) limits: ", said, re.MULTILINE)


def test_train_and_build_say_what_is_wrong_with_their_file(tmp_path: Path, capsys: Captured) -> None:
    for module in ("torch", "onnx"):
        pytest.importorskip(module)
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\nchekpoint: y\n")
    for command in ("build", "train"):
        assert main([command, str(path)]) == CONFIGURATION
        assert f"{path}:" in complaint(capsys)
