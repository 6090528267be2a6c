"""The command line of `edgeclip build` for models."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeclip.cli import main


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "either a recipe or a model"),
        (["recipe.yaml", "--model", "nano"], 2, "either a recipe or a model"),
        (["--image-onnx", "clip.onnx"], 2, "belong together"),
        (["--model", "x", "--image-onnx", "clip.onnx", "--text-bank", "t.npz"], 2, "contradict each other"),
        (["--model", "no-such-model"], 65, "vit-b-32-laion"),
        (["--model", "EMPTY", "--calibration", "demo"], 65, "holds no config.json"),
        (["--image-onnx", "no.onnx", "--text-bank", "no.npz", "--calibration", "demo"], 65, "no.onnx does not exist"),
    ],
)
def test_mistakes(words: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = str(tmp_path)
    assert main(["build", *(empty if word == "EMPTY" else word for word in words)]) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0.5", "0.5,0.5", "a,b,c", "1.5,0,0"])
def test_mean_is_three_numbers(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--model", "nano", "--mean", value]) == 2
    assert "argument --mean" in capsys.readouterr().err
