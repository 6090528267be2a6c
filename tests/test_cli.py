from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeclip.cli import main, make_parser
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
    with pytest.raises(SystemExit) as ended:
        main(["run", "--source", "demo", *options.split()])
    assert ended.value.code == USAGE
    assert options.split()[0] in capsys.readouterr().err


def test_cameras_and_sources_mix_in_the_order_given() -> None:
    arguments = make_parser().parse_args(["run", "--camera", "1", "--source", "demo", "--camera", "0"])
    assert arguments.source == ["camera:1", "demo", "camera:0"]


def test_every_run_option_is_a_config_key_and_every_key_an_option_or_a_time_out() -> None:
    from edgeclip.config import FIELDS

    options = "--json --realtime --wait --source x --labels x --label x --bundle x --fps 1 --top 1 --sink x --record x"
    options += " --snapshot x --max-frames 1 --threads 1 --backend x --smoothing 1"
    given = vars(make_parser().parse_args(["run", *options.split()]))
    assert set(given) - {"command"} == set(FIELDS) - {"open_timeout_s", "read_timeout_s"}


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
