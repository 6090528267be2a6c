from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from commandline import Captured

from edgeclip.cli import main

pytestmark = pytest.mark.usefixtures("bare_environment")


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


def test_verify(tiny_path: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["verify", str(tiny_path), "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["passed"]
    assert {engine["file"] for engine in verdict["engines"]} == {"image.tflite", "image.onnx"}
    assert main(["verify", str(tiny_path), "--labels", str(tmp_path / "labels.txt")]) == 2
    assert "give --data too" in capsys.readouterr().err


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
