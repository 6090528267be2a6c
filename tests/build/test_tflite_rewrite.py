"""Dividing the channels behind a QuickGELU leaves what a TFLite graph computes."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from clip_vit import ClipViT, QuickGELU
from small import facts

from edgeclip.build.exporter import sample_images, write_tflite
from edgeclip.build.graphs import ImageGraph
from edgeclip.build.tflite import TFLiteGraph, operators
from edgeclip.build.tflite_rewrite import Gate, divide_gates
from edgeclip.train.towers import ViTTower


def rows(path: Path) -> np.ndarray:
    graph = TFLiteGraph(path)
    return np.concatenate([graph.run(frame[None]).copy() for frame in sample_images(32, 32)])


def test_gates_are_divided_and_what_is_no_gate_is_left_and_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tower = ClipViT(32, 8, 32, 2, 64, 2, 16, QuickGELU())
    for parameter in tower.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    module = ImageGraph(tower, facts(ViTTower(), 32).preprocess).eval().requires_grad_(False)
    path, divided = tmp_path / "float.tflite", tmp_path / "divided.tflite"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_tflite(module, sample_images(32, 32)[:1], path)
    found = operators(path)
    assert [o.shape for o in found] == [(192, 32), *[(32, 96), (32, 32), (32, 64), (64, 32)] * 2, (32, 16)]
    scale = np.exp(np.random.default_rng(0).normal(size=64)).astype(np.float32)
    gates = [Gate(found[3], found[4], scale), Gate(found[7], found[8], scale)]
    model, left = divide_gates(path.read_bytes(), [*gates, Gate(found[1], found[2], scale)])
    assert len(left) == 1
    assert "not a QuickGELU" in left[0]
    divided.write_bytes(model)
    assert np.abs(rows(divided) - rows(path)).max() < 1e-5
    assert len(model) < 1.2 * path.stat().st_size  # the weights it replaced are gone
