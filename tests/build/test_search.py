"""The search: on a transformer with outliers like a trained one's, every remedy is tried and the cosine comes back."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from small import facts, textured, write_graph

from edgeclip.build.capture import capture, embeddings, sample
from edgeclip.build.findings import Findings
from edgeclip.build.graphs import ImageGraph
from edgeclip.build.local import Local, outliers
from edgeclip.build.measure import distance
from edgeclip.build.quantize import match
from edgeclip.build.recipe import Search
from edgeclip.build.search import Searcher, search, searches
from edgeclip.build.sites import Graph, Layer, sites_of
from edgeclip.build.spec import Spec, quantized
from edgeclip.build.tflite import Operator
from edgeclip.progress import Silent
from edgeclip.train.towers import DualEncoder, ViTTower

KINDS = ("Conv", "Gemm", "MatMul")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    torch.manual_seed(0)
    known = facts(ViTTower(patch=8, width=32, depth=2, heads=2, mlp_ratio=2), 32)
    tower = DualEncoder(known.towers).image
    for name, parameter in tower.named_parameters():
        if name.endswith("norm1.weight") or name.endswith("norm2.weight"):
            parameter.data[5] *= 20.0  # channels that LayerNorm blows up
        if name.endswith("fc1.bias"):
            parameter.data[3] += 25.0  # a hidden channel that is always large
    path = tmp_path_factory.mktemp("graph") / "image.onnx"
    return Graph.load(write_graph(ImageGraph(tower, known.preprocess), path, 32))


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return [cv2.resize(picture, (32, 32))[None] for picture in textured(48)]


def searched(
    graph: Graph, frames: list[np.ndarray], recipe: Search, gate: float, budget_s: float = 600.0
) -> tuple[Spec, Findings]:
    sites = sites_of(graph, KINDS)
    seen = sample(graph, sites, frames, recipe.frames)
    return search(graph, sites, seen, recipe, gate, time.monotonic() + budget_s, Silent())


def test_remedies_bring_the_cosine_back_and_the_report_says_which(graph: Graph, frames: list[np.ndarray]) -> None:
    recipe = Search(
        observers=("min-max", "percentile-99.99", "mse"), smooth=(0.5, 0.75), centre=("mean", "middle"),
        whole_pixels=True, bias_correction=True, weight_rounding=True,
        outliers_apart=True, sensitivity=True, frames=16,
    )  # fmt: skip
    sites = sites_of(graph, KINDS)
    spec, found = searched(graph, frames[:32], recipe, 0.99)
    smoothing = [f"smoothing {where}" for where in ("behind LayerNorm", "behind GELU", "elsewhere")]
    remedies = ["observers", "outliers apart", *smoothing, "whole pixels", "bias correction"]
    assert [trial.remedy for trial in found.trials[:8]] == ["min-max", *remedies]
    left = [trial.remedy for trial in found.trials[:8] if not trial.kept]
    assert [trial.remedy for trial in found.trials[8:]] == [*(f"{remedy}, again" for remedy in left), "weight rounding"]
    kept = [trial.centred for trial in found.trials if trial.kept]
    assert kept == sorted(kept)
    held_out = frames[32:]
    reference = embeddings(graph.build(), held_out)
    reached = distance(reference, embeddings(quantized(graph, sites, spec), held_out)).centred.mean
    assert 1.0 - reached < 0.5 * (1.0 - found.trials[0].centred)
    assert len(found.sensitivity) == len(sites)
    assert found.sensitivity == sorted(found.sensitivity, key=lambda item: -item.error)
    assert found.floating == []


def test_fallback_leaves_costly_layers_float_until_the_gate_holds(graph: Graph, frames: list[np.ndarray]) -> None:
    recipe = Search(sensitivity=True, fallback=True, most_float=4, least_int8=0.0, frames=16)
    spec, found = searched(graph, frames[:32], recipe, 0.9999)
    assert len(found.floating) == 4
    assert found.floating == sorted(spec.floats())
    assert found.sensitivity[0].floating
    assert found.trials[-1].centred > found.trials[0].centred
    bound = Search(fallback=True, least_int8=80.0, frames=16)  # which layers cost most it finds out by itself
    bounded = searched(graph, frames[:32], bound, 0.9999)[1]
    assert 80.0 <= bounded.int8_weights < 100.0
    # What the recipe keeps float is of the same share.
    kept = msgspec.structs.replace(bound, keep_float=("blocks.0.fc1",))
    assert searched(graph, frames[:32], kept, 0.9999)[1].int8_weights >= 80.0
    unneeded = searched(graph, frames[:32], recipe, 0.0)[1]
    assert unneeded.floating == []


def test_fallback_goes_on_until_labels_agree(graph: Graph, frames: list[np.ndarray]) -> None:
    """Texts that lie as close together as the pictures turn over where the cosine is long satisfied."""
    sites, recipe = sites_of(graph, KINDS), Search(sensitivity=True, fallback=True, most_float=6, frames=16)
    pictures = embeddings(graph.build(), frames[:32])
    texts = pictures / np.linalg.norm(pictures, axis=1, keepdims=True)
    seen = sample(graph, sites, frames[:32], recipe.frames, texts)
    spec, found = search(graph, sites, seen, recipe, 0.0, time.monotonic() + 600.0, Silent())
    assert found.trials[0].agrees is not None
    assert found.trials[0].agrees < 98.0
    assert spec.floats()
    assert found.trials[-1].agrees > found.trials[0].agrees
    assert 0.0 < found.int8_weights < 100.0


def test_a_spent_budget_stops_the_search_with_what_it_has(graph: Graph, frames: list[np.ndarray]) -> None:
    recipe = Search(smooth=(0.5,), sensitivity=True, fallback=True, frames=8)
    spec, found = searched(graph, frames[:8], recipe, 0.99, budget_s=0.0)
    assert found.out_of_time
    assert [trial.remedy for trial in found.trials] == ["min-max"]
    assert spec.floats() == []


class SpentOnRanking(Searcher):
    def late(self, what: str) -> bool:
        return what == "float fallback"


def test_a_budget_spent_on_ranking_layers_leaves_all_float_that_may_be(graph: Graph, frames: list[np.ndarray]) -> None:
    """A slower engine rather than one that misses its gate."""
    sites = sites_of(graph, KINDS)
    recipe = Search(sensitivity=True, fallback=True, most_float=4, least_int8=0, frames=8)
    seen = sample(graph, sites, frames[:8], recipe.frames, None)
    spec, found = SpentOnRanking(graph, sites, seen, recipe, 0.99999, time.monotonic() + 600.0, Silent()).run()
    assert len(spec.floats()) == 4
    assert [trial.remedy for trial in found.trials] == ["min-max", f"4 of {len(sites)} sites float"]


def test_min_max_alone_is_no_search() -> None:
    assert not searches(Search(keep_float=("patch",)))
    assert searches(Search(observers=("min-max", "mse")))
    assert searches(Search(sensitivity=True))


def test_smoothing_and_correction_lower_a_layers_own_error(graph: Graph, frames: list[np.ndarray]) -> None:
    sites = sites_of(graph, KINDS)
    seen = capture(graph, sites, frames[:16], 16)
    site = next(site for site in sites if site.name == "blocks.0.fc2")
    local = Local(graph, site, seen[site.source])
    plain = local.plain(["min-max"])
    smooth = local.rewritten(["min-max", "mse"], [0.5], ["middle"])
    assert smooth.error < 0.5 * plain.error
    assert local.plain(["min-max", "mse"]).error <= plain.error
    (amount,) = local.correction(plain)
    assert amount.shape == (32,)


def test_outliers_apart_leave_a_layer_less_error(graph: Graph, frames: list[np.ndarray]) -> None:
    sites = sites_of(graph, KINDS)
    seen = capture(graph, sites, frames[:16], 16)
    site = next(site for site in sites if site.name == "blocks.0.fc2")
    found = outliers(seen[site.source])
    assert found == (3,)  # the channel that is always large
    whole, without = (Local(graph, site, seen[site.source], apart) for apart in ((), found))
    plain, spared = whole.plain(["min-max"]), without.plain(["min-max"])
    assert spared.error < 0.2 * plain.error
    assert spared.entry.apart == found
    smooth = without.rewritten(["min-max"], [0.5], ["mean"])
    assert smooth.scale is None or smooth.scale[3] == 1.0
    assert smooth.shift is None or smooth.shift[3] == 0.0
    recipe = Search(smooth=(0.5,), centre=("mean",), outliers_apart=True, weight_rounding=True, frames=16)
    spec, told = searched(graph, frames[:32], recipe, 0.99)
    kept = {trial.remedy.removesuffix(", again") for trial in told.trials if trial.kept}
    assert (spec.entries[site.source].apart == found) == ("outliers apart" in kept)


def test_capture_keeps_the_class_token_and_the_whole_range(graph: Graph, frames: list[np.ndarray]) -> None:
    sites = sites_of(graph, KINDS)
    site = next(site for site in sites if site.name == "blocks.0.qkv")
    few, all_rows = (capture(graph, [site], frames[:4], rows)[site.source] for rows in (3, 1000))
    assert few.rows.shape == (12, 32)
    assert np.array_equal(few.rows[::3], all_rows.rows[::17])
    assert few.range() == all_rows.range() == (float(all_rows.rows.min()), float(all_rows.rows.max()))


def test_layers_match_operators_in_order_or_not_at_all() -> None:
    layers = [Layer(name, "MatMul", name, "w", "", name, shape) for name, shape in (("a", (4, 8)), ("b", (8, 4)))]
    operators = [Operator("FULLY_CONNECTED", "x", "y", (4, 8)), Operator("FULLY_CONNECTED", "y", "z", (8, 4))]
    matched, why = match(layers, operators)
    assert matched == {"a": operators[0], "b": operators[1]}
    assert why == ""
    assert match(layers, operators[::-1])[0] == {}
    assert "not carried over" in match(layers, operators[:1])[1]


def test_spec_files_are_small_and_plain(graph: Graph, tmp_path: Path, frames: list[np.ndarray]) -> None:
    spec, _ = searched(graph, frames[:8], Search(smooth=(0.5,), frames=8), 0.99)
    spec.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"spec.json", "spec.npz"}
    assert "blocks.0.qkv" in (tmp_path / "spec.json").read_text()
