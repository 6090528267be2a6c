"""`edgeclip train`: mistakes are told with file, line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import toy
import yaml
from toy import BRIEF

from edgeclip.cli import main
from edgeclip.errors import BAD_DATA, CONFIGURATION
from edgeclip.train import run

pytestmark = pytest.mark.usefixtures("quick_curves")


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert said.err.splitlines()[-2].startswith("error: ")
    assert said.err.splitlines()[-1].startswith("  fix: ")
    return said.err


def test_a_run_already_begun_is_not_begun_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = toy.write_config(tmp_path, [BRIEF]), tmp_path / "out"
    out.mkdir()
    (out / "state.pt").write_bytes(b"precious")
    assert main(["train", str(config), "--out", str(out)]) == CONFIGURATION
    said = complaint(capsys)
    assert "state.pt exists" in said
    assert "--resume" in said
    assert (out / "state.pt").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("change", "line", "named"),
    [
        ({"sede": 1}, "sede: 1", ["unknown key `sede`", "did you mean `seed`?"]),
        ({"ema": 1.5}, "ema: 1.5", ["`ema`", "less than 1"]),
        ({"seed": "x"}, "seed: x", ["`seed`", "whole number"]),
        ({"templates": []}, "templates: []", ["`templates`"]),
        ({"templates": ["a photo"]}, None, ["template 'a photo'", "{}"]),
        ({"phases": []}, "phases: []", ["`phases`"]),
        ({"phases": [{**BRIEF, "loss": "hinge"}]}, "  loss: hinge", ["`phases.0.loss`", "hinge"]),
        ({"phases": [{**BRIEF, "bach": 8}]}, "  bach: 8", ["unknown key `phases.0.bach`", "`batch`"]),
        ({"phases": [{**BRIEF, "epochs": 0}]}, "  epochs: 0", ["`phases.0.epochs`", "1"]),
        ({"phases": [{**BRIEF, "train": []}]}, "- name: pairs", ["`phases.0`", "trains nothing"]),
        ({"phases": [{**BRIEF, "loss": "bank"}]}, "- name: pairs", ["`phases.0`", "fixed bank"]),
        ({"phases": [{**BRIEF, "soft": 1.0}]}, "- name: pairs", ["`phases.0`", "soft"]),
        ({"phases": [{**BRIEF, "pair": 0.0}]}, "- name: pairs", ["`phases.0`", "no loss"]),
        ({"phases": [{**BRIEF, "images": "teacher"}]}, "- name: pairs", ["`phases.0`", "no pixels"]),
        ({"phases": [{**BRIEF, "distill": 1.0}]}, None, ["phase pairs distils", "teachers.image"]),
        ({"phases": [{**BRIEF, "anchor": 1.0}]}, None, ["phase pairs anchors", "teachers.text"]),
        ({"phases": [{**BRIEF, "neighbours": 1.0}]}, "- name: pairs", ["phase pairs: neighbours", "to [text]"]),
        ({"phases": [{**BRIEF, "answers": 1.0}]}, "- name: pairs", ["`phases.0`", "answers"]),
        (  # the only loss of its phase
            {"phases": [{**BRIEF, "train": ["image"], "pair": 0.0, "answers": 1.0}]},
            None,
            ["phase pairs has answers", "teachers.bank"],
        ),
        ({"towers": {**toy.TOWERS, "text": {"width": 9}}}, "  text:", ["`towers.text`", "heads"]),
    ],
)
def test_a_mistake_in_the_configuration_is_told_by_file_line_and_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], line: str | None, named: list[str]
) -> None:
    path = toy.write_config(tmp_path, **{"phases": [BRIEF], **change})
    assert main(["train", str(path), "--out", str(tmp_path / "out")]) == CONFIGURATION
    said = complaint(capsys)
    number = path.read_text().splitlines().index(line) + 1 if line else 1
    assert f"{path}:{number}: " in said
    for part in named:
        assert part in said
    assert not (tmp_path / "out").exists()


def test_a_vit_cannot_be_trained_at_other_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vit = {"kind": "vit", "patch": 8, "width": 16, "depth": 1, "heads": 2}
    path = toy.write_config(tmp_path, [{**BRIEF, "sizes": [[0.0, 8]]}], towers={**toy.TOWERS, "image": vit})
    assert main(["train", str(path), "--out", str(tmp_path / "out")]) == CONFIGURATION
    assert "a ViT is trained at its size of 16 alone" in complaint(capsys)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"data": {"train": ["none.tar"], "dev": "dev.tar"}}, "none.tar"),
        ({"data": {"train": ["train.tar"], "dev": "none.tar"}}, "none.tar"),
        ({"data": {"train": ["train.tar"], "dev": "dev.tar", "dev_labels": "none.txt"}}, "none.txt"),
        ({"data": {"train": ["train.tar"], "dev": "dev.tar", "dev_labels": "odd.txt"}}, "odd.txt"),
        ({"corpus": "none.txt"}, "none.txt"),
        ({"teachers": {"image": "none.npz"}}, "none.npz"),
        ({"phases": [{**BRIEF, "batch": 500}]}, "96 pairs are fewer than a batch of 500"),
        ({"phases": [{**BRIEF, "learning_rate": 1e30, "warmup": 0.0, "epochs": 4}]}, "lower its learning_rate"),
    ],
)
def test_data_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: Any, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.txt").write_text("mauve\n", encoding="utf-8")
    path = toy.write_config(tmp_path, **{"phases": [BRIEF], **change})
    assert main(["train", str(path), "--out", "out"]) == BAD_DATA
    assert named in complaint(capsys)


def test_the_default_folder_is_named_after_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(toy.write_config(tmp_path, [BRIEF]))]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("runs/toy/checkpoint.safetensors: top-1 ")
    assert "pairs 1/1: loss " in said.err
    assert (tmp_path / "runs" / "toy" / "checkpoint.safetensors").exists()


def test_help_says_what_goes_in_and_what_comes_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for part in (
        "CONFIG.yaml",
        "--out",
        "--resume",
        "checkpoint.safetensors",
        "history.jsonl",
        "tar shards",
        "kill -9",
    ):
        assert part in said
    example = Path(__file__).parents[2] / "engines" / "nano-train.yaml"
    assert "engines/nano-train.yaml" in said
    assert run.load_yaml(example, run.TrainConfig).name == yaml.safe_load(example.read_text())["name"]
