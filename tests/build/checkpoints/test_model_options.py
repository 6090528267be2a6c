"""The command line of `edgeclip build` for models."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeclip.build.checkpoints import detect
from edgeclip.build.recipe import load_plan
from edgeclip.cli import main
from edgeclip.errors import DataError


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
        (["nano"], 2, "edgeclip build --model nano"),
        (["EMPTY"], 2, "edgeclip build --model "),
        (["--model", "ViT-B32"], 65, "did you mean vit-b-32-laion"),
        (["--model", "openai/clip-vit-base-patch32"], 65, "repository: openai/clip-vit-base-patch32"),
        (["--model", "./gone"], 65, "check the path"),
        (["--model", "nano", "--target", "tflite, onxn"], 2, "did you mean onnx?"),
        (["--model", "nano", "--target", "tflite,"], 2, "'' is not one we build"),
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


def test_what_is_no_recipe_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.yaml").write_text("name: small\n")
    (tmp_path / "small-train.yaml").write_text("seed: 7\n")
    (tmp_path / "int8.yaml").write_text("search: {smooth: [0.5]}\n")
    (tmp_path / "sampling.yaml").write_text("frames: 64\n")
    for name, code, said in (
        ("small", 2, f"did you mean {tmp_path / 'small.yaml'}?"),
        ("smal.yaml", 78, f"did you mean {tmp_path / 'small.yaml'}?"),
        ("small-train.yaml", 78, "how a model is trained"),
        ("int8.yaml", 78, "which a recipe names as `quantization:`"),
        ("sampling.yaml", 78, "which a recipe names as `sampling:`"),
    ):
        assert main(["build", str(tmp_path / name)]) == code
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("config", ["config.json", "open_clip_config.json"])
def test_weights_beside_their_config_are_given_as_a_directory(config: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    (tmp_path / config).touch()
    with pytest.raises(DataError, match=f"{config} beside it") as caught:
        detect(tmp_path / "model.safetensors")
    assert caught.value.hint == f"--model {tmp_path}"
    assert detect(tmp_path / "model.safetensors", "ViT-B-32").loader == "open_clip"


def test_a_recipe_of_a_checkpoint_that_says_nothing_of_quantization_is_searched_for(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\ncheckpoint: mine.safetensors\n")
    assert load_plan(recipe).open
    (tmp_path / "plain.yaml").write_text("{}\n")
    recipe.write_text(recipe.read_text() + "quantization: plain.yaml\n")
    assert not load_plan(recipe).open
