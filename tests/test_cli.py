from __future__ import annotations

import argparse
import errno
import importlib
import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from pkgutil import iter_modules

import pytest
from commandline import Captured, complaint, program

from edgeclip import commands
from edgeclip.cli import COMMANDS, main, make_parser
from edgeclip.errors import BAD_DATA, CONFIGURATION, UNAVAILABLE, USAGE

pytestmark = pytest.mark.usefixtures("bare_environment")


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


def test_a_name_that_is_not_utf8_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    for words in (["run", "--source", "b\udcffd.jpg"], ["events", "show", "\udcff"], ["run", "--sink", "jsonl:\udcff"]):
        assert main(words) == USAGE
        assert "is not UTF-8" in complaint(capsys)
    monkeypatch.setenv("EDGECLIP_STATE", "/tmp/\udcff")
    assert main(["run", "--source", "demo"]) == USAGE
    assert "EDGECLIP_STATE is not UTF-8" in complaint(capsys)


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
