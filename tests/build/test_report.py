"""Which engine is kept, and which figures stop a bundle."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edgeclip.build.figures import Worst, draw_sensitivity, draw_worst
from edgeclip.build.findings import Findings, Sensitivity, Trial
from edgeclip.build.gates import held
from edgeclip.build.markdown import as_markdown
from edgeclip.build.measure import (
    Distance,
    Spread,
    accuracy,
    accuracy_drop,
    best,
    cosines,
    distance,
    expected_agreement,
)
from edgeclip.build.page import as_html
from edgeclip.build.quantize import DYNAMIC, ON_OPENVINO, QDQ
from edgeclip.build.recipe import Gates
from edgeclip.build.report import Candidate, FloatFigures, Report, choose, judge, keep, require, verdict
from edgeclip.build.verify import noting
from edgeclip.errors import DataError


def candidate(
    file: str, ms: float, centred: float = 0.995, precision: str = "int8 static", **more: object
) -> Candidate:
    spread = Spread(centred, centred, centred)
    return msgspec.structs.replace(Candidate(file, precision, 1000, ms, 1.0, Distance(spread, spread)), **more)


def report(images: list[Candidate], **parity: float) -> Report:
    judged = keep([judge(image, Gates(), ("litert",)) for image in images], ("tflite", "onnx"))
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
    some = [candidate("a.tflite", 1.0), candidate("b.tflite", 2.0), candidate("image.onnx", 9.0)]
    assert [c.kept for c in keep(some, ("tflite",))] == [True, False, True]


def test_int8_that_is_slower_than_float_is_not_chosen_and_says_so() -> None:
    floating = candidate("image.float.tflite", 1.0, 1.0, "float32", speedup=1.0)
    slow = candidate("image.static.tflite", 1.5, speedup=0.67)
    kept = keep([floating, slow], ("tflite",))
    assert [c.kept for c in kept] == [True, False]
    assert verdict(kept[1]) == "not faster than float on this machine, and not chosen"
    assert keep([floating, slow], ())[1].kept  # the format was not asked for: what compiles from it is INT8


def test_float_does_not_stand_in_for_int8_that_fails_its_gates() -> None:
    floating = candidate("image.float.tflite", 1.0, 1.0, "float32")
    failing = candidate("image.static.tflite", 0.5, 0.9)
    made = report([floating, failing])
    assert made.kept() == []
    with pytest.raises(DataError, match=r"image\.static\.tflite"):
        require(made)


def test_a_text_tower_is_kept_for_its_size() -> None:
    (text,) = keep([candidate("text.tflite", 2.0, precision="int8 weights", speedup=0.9)], ("tflite",))
    assert verdict(text) == "kept: smaller, and computes in float"


def test_qdq_is_kept_beside_a_faster_float_onnx() -> None:
    floating = candidate("image.float.onnx", 1.0, 1.0, "float32")
    portable = candidate("image.onnx", 2.0, precision="int8 static Q/DQ", speedup=0.5)
    kept = keep([floating, portable], ("onnx",))
    assert [c.kept for c in kept] == [True, True]
    assert verdict(kept[1]) == "kept, though not faster than float here"


def test_report_tells_what_the_search_found() -> None:
    found = Findings(
        frames=32,
        trials=[Trial("min-max", 0.7, 0.5, True, 3.0), Trial("smoothing", 0.99, 0.98, True, 9.0, 98.5)],
        sensitivity=[Sensitivity("blocks.0.fc2", 0.02, True)],
        floating=["blocks.0.fc2"],
        int8_weights=91.5,
        out_of_time="bias correction",
    )
    text = as_markdown(msgspec.structs.replace(report([candidate("a.tflite", 1.0)]), search=found))
    assert "| smoothing | 0.9900 / 0.9800 | 98.5 % | kept | 9 |" in text
    assert "Left float: blocks.0.fc2. INT8 are 91.5 % of" in text
    assert "of it alone in INT8, over 8 frames" in text
    assert "Left in float is 1 site: 92 % of the weights are INT8." in text
    assert "**The search's budget ended before: bias correction.**" in text
    page = as_html(text, {"Layers": draw_sensitivity(found.sensitivity)})
    assert "<td>smoothing</td>" in page
    assert "data:image/png;base64," in page
    assert "<script" not in as_html("# <script>", {})


def test_a_search_that_ran_out_of_time_is_to_be_given_more() -> None:
    poor = report([candidate("image.onnx", 1.0, 0.6, QDQ)])
    for out_of_time, begins in (("", "calibrate with more"), ("observers", "the search's time ended before observers")):
        with pytest.raises(DataError) as caught:
            require(msgspec.structs.replace(poor, search=Findings(out_of_time=out_of_time)))
        assert caught.value.hint.startswith(begins)


def test_worst_frames_are_drawn() -> None:
    frame = np.zeros((8, 8, 3), np.uint8)
    picture = draw_worst([Worst(frame, 0.8, "cat", "dog", "cat"), Worst(frame, 0.9, "", "")])
    assert picture.startswith(b"\x89PNG")


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
    off = report([candidate("a.tflite", 1.0)], cosine_p1=0.997)
    require(msgspec.structs.replace(off, parity={"cosine_p1": 0.995, "mae_p99": 0.25}))  # rounding alone
    with pytest.raises(DataError, match=r"0\.40 grey levels from Pillow's"):
        require(msgspec.structs.replace(off, parity={"cosine_p1": 0.995, "mae_p99": 0.4}))


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


def test_agreement_is_expected_by_how_far_the_best_is_ahead_and_how_much_scores_move() -> None:
    chance = np.random.default_rng(0)
    texts = chance.normal(size=(40, 64)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    rows = texts[chance.integers(40, size=3000)] + 0.25 * chance.normal(size=(3000, 64)).astype(np.float32)
    for noise in (0.0, 0.05, 0.1):
        other = (rows + noise * chance.normal(size=rows.shape)).astype(np.float32)
        counted = 100.0 * float((best(rows, texts)[:, 0] == best(other, texts)[:, 0]).mean())
        assert abs(expected_agreement(rows, other, texts) - counted) < 2.5
        assert abs(expected_agreement(rows[:60], other[:60], texts) - counted) < 6.0
    assert expected_agreement(rows, np.full_like(rows, np.nan), texts) == 0.0


def test_rows_that_are_not_finite_are_as_far_as_can_be() -> None:
    rows = np.ones((3, 4), np.float32)
    broken = rows.copy()
    broken[1, 2] = np.nan
    assert cosines(rows, broken).tolist() == pytest.approx([1.0, -1.0, 1.0])


def test_accuracy_counts_the_first_k() -> None:
    order = best(np.eye(3, dtype=np.float32), np.array([[1, 0, 0], [0.5, 0.4, 0], [0, 0, 1]], np.float32))
    assert accuracy(order, np.array([0, 0, 2]), 1) == pytest.approx(200 / 3)
    assert accuracy(order, np.array([0, 0, 2]), 3) == 100.0


def test_a_drop_is_told_with_what_chance_makes_of_it() -> None:
    truth = np.zeros(1000, np.intp)
    reference, order = np.zeros((1000, 2), np.intp), np.zeros((1000, 2), np.intp)
    reference[:20] = order[10:40] = 1  # 10 wrong in both, 10 mended, 20 broken
    drop, error = accuracy_drop(reference, order, truth)
    assert drop == pytest.approx(1.0)
    assert error == pytest.approx(100 * (0.03 - 0.01**2) ** 0.5 / 1000**0.5)
    assert accuracy_drop(reference, reference, truth) == (0.0, 0.0)
    told = judge(candidate("image.onnx", 1.0, top1_drop=drop, top1_drop_error=error), Gates(), ())
    assert told.refused == "top-1 drops by 1.00 ± 0.55 points, more than 0.5"


def test_markdown_names_every_engine_and_why_it_was_refused() -> None:
    text = as_markdown(report([candidate("a.tflite", 1.0), candidate("b.tflite", 1.0, 0.5)]))
    kept, refused = (next(line for line in text.splitlines() if f"{name}.tflite" in line[:20]) for name in "ab")
    assert kept.startswith("| **a.tflite** | int8 static |")
    assert kept.endswith("| kept |")
    assert refused.endswith("| mean-centred cosine 0.5000 is below 0.99 |")
    assert '<tr class="marked"><td><strong>a.tflite</strong></td>' in as_html(text, {})


def test_the_report_begins_with_the_verdict() -> None:
    floating = candidate("image.float.tflite", 4.0, 1.0, "float32")
    image = msgspec.structs.replace(candidate("image.static.tflite", 1.0, 0.999, speedup=4.0), kept=True)
    made = msgspec.structs.replace(report([floating, image]), floating=FloatFigures({"tflite": 4.0}, {"tflite": 8000}))
    said = as_markdown(made).splitlines()[2]
    assert said.startswith("**Every gate that was measured is reached.** Not measured: top-1 accuracy, preprocessing")
    assert "`run` takes image.tflite (int8 static): 1.00 ms a frame" in said
    assert "LiteRT's float takes 4.00 ms, 4.0 times as long" in said
    fast = report([candidate("image.float.tflite", 0.5, 1.0, "float32"), image])
    assert "INT8 is not faster than that on this machine." in as_markdown(fast).splitlines()[2]
    refused = as_markdown(report([candidate("image.static.tflite", 1.0, 0.9)]))
    assert refused.splitlines()[2] == "**Refused: a gate is missed, and no bundle was written.**"
    assert "| 0.9000 (image.static.tflite) | **missed** |" in refused
    assert "In bold what would be kept: " in refused
    late = report([candidate("image.static.tflite", 1.0, 0.9)])
    late = msgspec.structs.replace(late, search=Findings(out_of_time="observers"))
    assert as_markdown(late).splitlines()[2].endswith("**The search's budget ended before: observers.**")


def test_pictures_that_were_calibrated_on_are_counted_and_told() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    overlap: list[bool] = []
    given = [frame[None] for frame in frames]
    assert [frame.tobytes() for frame in noting(iter(given), frames[1:3], overlap)] == [f.tobytes() for f in given]
    assert overlap == [False, True, True, False]
    made = msgspec.structs.replace(report([candidate("image.static.tflite", 1.0)]), overlap=2)
    assert "**2 of the 10 pictures measured on were calibrated on, too.**" in as_markdown(made)


def test_a_gate_that_is_near_let_pass_or_loosened_shows() -> None:
    image = candidate("image.static.tflite", 1.0, 0.9915, top1=50.2, top1_drop=0.2)
    gates = {gate.gate.partition(",")[0]: gate for gate in held(report([image], cosine_p1=0.995, mae_p99=0.25))}
    assert gates["mean-centred cosine to float"].state == "reached narrowly"
    assert gates["top-1 accuracy"].state == "reached"
    assert gates["preprocessing"].state.startswith("let pass: 99 % of pictures are within 0.33 grey levels")
    off = held(report([image], cosine_p1=0.995, mae_p99=0.5))[-1]
    assert off.state == "missed"
    loose = msgspec.structs.replace(report([image]), gates=Gates(top1_drop=1.0, centred_cosine=0.98, parity_grey=1.0))
    text = as_markdown(loose)
    assert "at least 0.98, **looser than the usual 0.99** |" in text
    assert "at most 1.0 points below float, **looser than the usual 0.5** |" in text
    assert "**looser than the usual 0.33 grey levels** |" in text
    assert "looser" not in as_markdown(report([image]))


def test_openvino_is_added_where_it_is_the_fastest_of_all_and_only_there() -> None:
    tflite, qdq = candidate("image.static.tflite", 2.0), candidate("image.onnx", 9.0, precision=QDQ)
    for ms, centred, kept in ((1.5, 0.995, True), (1.99, 0.995, False), (3.0, 0.995, False), (1.0, 0.9, False)):
        other = candidate("image.openvino.onnx", ms, centred, ON_OPENVINO)
        judged = [judge(c, Gates(), ("litert",)) for c in (tflite, qdq, other)]
        assert [c.kept for c in keep(judged, ("tflite", "onnx"))] == [True, True, kept], ms


def test_what_openvino_alone_computes_right_is_no_engine_for_others() -> None:
    judged = [candidate("image.onnx", 9.0, 0.5, QDQ), candidate("image.openvino.onnx", 1.0, 0.999, ON_OPENVINO)]
    made = report(judged)
    with pytest.raises(DataError, match=r"image\.onnx"):
        require(made)
    assert held(made)[0].state == "missed"
    assert "**Refused" in as_markdown(made)


def test_an_edge_tpu_takes_static_int8_alone() -> None:
    kinds = {"image.static.tflite": "int8 static", "image.dynamic.tflite": DYNAMIC, "image.float.tflite": "float32"}
    judged = [judge(candidate(file, 1.0, 1.0, kind), Gates(), ("edgetpu",)) for file, kind in kinds.items()]
    assert [bool(c.refused) for c in judged] == [False, True, True]
    assert not judge(candidate("text.tflite", 1.0, 1.0, "int8 weights"), Gates(), ("edgetpu",)).refused
