"""Which engine is kept, and which figures stop a bundle."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edgeclip.build.measure import Distance, Spread, accuracy, best, cosines, distance, latencies_ms
from edgeclip.build.recipe import Gates
from edgeclip.build.report import Candidate, FloatFigures, Report, as_markdown, choose, judge, keep, require
from edgeclip.errors import DataError


def candidate(
    file: str, ms: float, centred: float = 0.995, precision: str = "int8 static", **more: object
) -> Candidate:
    spread = Spread(centred, centred, centred)
    return msgspec.structs.replace(Candidate(file, precision, 1000, ms, 1.0, Distance(spread, spread)), **more)


def report(images: list[Candidate], **parity: float) -> Report:
    judged = keep([judge(image, Gates(), ("litert",)) for image in images])
    return Report(
        "small", "sha256:0", "2026-01-01", "a machine", 10, "held out", 0, Gates(), FloatFigures({}, {}), judged, [],
        {}, {}, dict(parity),
    )  # fmt: skip


def test_the_faster_of_those_that_pass_is_kept() -> None:
    slow, fast, poor = candidate("a.tflite", 2.0), candidate("b.tflite", 1.0), candidate("c.tflite", 0.5, 0.9)
    judged = [judge(c, Gates(), ("litert",)) for c in (slow, fast, poor)]
    chosen = choose(judged)
    assert chosen is not None
    assert chosen.file == "b.tflite"
    assert "mean-centred cosine 0.9000 is below 0.99" in judged[2].refused


def test_a_tie_in_time_goes_to_the_more_accurate() -> None:
    chosen = choose([candidate("a.tflite", 1.00, 0.992), candidate("b.tflite", 1.015, 0.998)])
    assert chosen is not None
    assert chosen.file == "b.tflite"


def test_every_format_keeps_its_own() -> None:
    kept = keep([candidate("a.tflite", 1.0), candidate("b.tflite", 2.0), candidate("image.onnx", 9.0)])
    assert [c.kept for c in kept] == [True, False, True]


def test_dynamic_range_is_not_for_tflite_runtime() -> None:
    dynamic = candidate("a.tflite", 1.0, precision="int8 dynamic-range")
    assert judge(dynamic, Gates(), ("litert",)).refused == ""
    assert "tflite-runtime" in judge(dynamic, Gates(), ("litert", "tflite-runtime")).refused


@pytest.mark.parametrize(
    "broken",
    [
        candidate("image.onnx", 1.0, 0.989),
        candidate("image.onnx", 1.0, float("nan")),
        candidate("image.onnx", 1.0, -1.0),
        candidate("image.onnx", 1.0, top1_drop=0.51),
    ],
)
def test_any_format_without_a_passing_engine_stops_the_bundle(broken: Candidate) -> None:
    require(report([candidate("a.tflite", 1.0)]))
    with pytest.raises(DataError, match=r"image\.onnx") as caught:
        require(report([candidate("a.tflite", 1.0), broken]))
    assert caught.value.exit_code == 65


def test_preprocessing_that_is_off_stops_the_bundle() -> None:
    require(report([candidate("a.tflite", 1.0)], cosine_p1=0.9981))
    with pytest.raises(DataError, match=r"parity cosine 0\.9970 is below 0\.998"):
        require(report([candidate("a.tflite", 1.0)], cosine_p1=0.997))


def test_a_collapsed_tower_shows_in_the_centred_cosine() -> None:
    random = np.random.default_rng(0)
    common = random.normal(size=32) * 50.0
    floats = (common + random.normal(size=(100, 32))).astype(np.float32)
    collapsed = (
        np.broadcast_to(floats.mean(0), floats.shape) + random.normal(size=floats.shape).astype(np.float32) * 0.01
    )
    figures = distance(floats, collapsed)
    assert figures.cosine.mean > 0.999
    assert figures.centred.mean < 0.3
    assert distance(floats, floats).centred.min == pytest.approx(1.0)


def test_rows_that_are_not_finite_are_as_far_as_can_be() -> None:
    rows = np.ones((3, 4), np.float32)
    broken = rows.copy()
    broken[1, 2] = np.nan
    assert cosines(rows, broken).tolist() == pytest.approx([1.0, -1.0, 1.0])


def test_accuracy_counts_the_first_k() -> None:
    order = best(np.eye(3, dtype=np.float32), np.array([[1, 0, 0], [0.5, 0.4, 0], [0, 0, 1]], np.float32))
    assert accuracy(order, np.array([0, 0, 2]), 1) == pytest.approx(200 / 3)
    assert accuracy(order, np.array([0, 0, 2]), 3) == 100.0


def test_latencies_are_taken_turn_by_turn() -> None:
    turns: list[str] = []
    latencies_ms({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, rounds=3)
    assert turns[-6:] == ["a", "b"] * 3


def test_markdown_names_every_engine_and_why_it_was_refused() -> None:
    text = as_markdown(report([candidate("a.tflite", 1.0), candidate("b.tflite", 1.0, 0.5)]))
    assert "- a.tflite: kept" in text
    assert "- b.tflite: mean-centred cosine 0.5000 is below 0.99" in text
