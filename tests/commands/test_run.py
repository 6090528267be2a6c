from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from commandline import Captured, complaint, program
from rtsp_server import RtspServer
from tiny_bundle import Weights, write_bundle, write_image_onnx, write_image_tflite

from edgeclip.bundle import write_digests
from edgeclip.cli import main, make_parser
from edgeclip.errors import BAD_DATA, CONFIGURATION, UNAVAILABLE, USAGE

pytestmark = pytest.mark.usefixtures("bare_environment")


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
    assert main(["run", "--source", "demo", *options.split()]) == USAGE
    assert options.split()[0] in capsys.readouterr().err


def test_cameras_and_sources_mix_in_the_order_given() -> None:
    arguments = make_parser().parse_args(["run", "--camera", "1", "--source", "demo", "--camera", "0"])
    assert arguments.source == ["camera:1", "demo", "camera:0"]


def test_every_run_option_is_a_config_key_and_every_key_an_option_or_a_time_out() -> None:
    from edgeclip.config import FIELDS

    options = "--json --realtime --wait --source x --labels x --label x --bundle x --fps 1 --top 1 --sink x --record x"
    options += " --max-temperature-c 80"
    options += " --snapshot x --max-frames 1 --threads 1 --backend x --smoothing 1 --recompile --gpu-preprocess"
    options += " --watch x --unknown 0 --metrics off --give-up-s 1 --outbox-mb 1 --media-mb 0 --media-days 1"
    options += " --clip-before-s 1 --clip-after-s 1 --no-taught"
    given = vars(make_parser().parse_args(["run", *options.split()]))
    not_typed = {key for key in FIELDS if key.endswith("_timeout_s")}
    not_typed |= {"require_signature", "keys", "probation_s"}  # policy of the device
    assert set(given) - {"command"} == set(FIELDS) - not_typed


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


def test_labels_and_watches_that_were_mixed_up_are_told(tmp_path: Path, capsys: Captured) -> None:
    labels, watches = tmp_path / "labels.txt", tmp_path / "watches.yaml"
    labels.write_text("cat\n")
    watches.write_text("watches: [{name: cat}]\n")
    for option, path, other in (("--labels", watches, "--watch"), ("--watch", labels, "--labels")):
        assert main(["run", "--source", "demo", option, str(path)]) == BAD_DATA
        assert f"{other} {path}" in complaint(capsys)


@pytest.mark.parametrize("options", ["--label=", "--fps=2000", "--threads=1000", "--bundle=", "--smoothing=9999"])
def test_a_value_that_no_run_can_have_is_a_usage_error(options: str, capsys: Captured) -> None:
    assert main(["run", "--source", "demo", options]) == USAGE
    assert options.partition("=")[0] in complaint(capsys)


@pytest.mark.parametrize("name", ["truncated.jpg", "truncated.png", "zero.jpg", "text.jpg", "empty/", "no-frames.mp4"])
def test_what_shows_nothing_is_bad_data_in_one_message(name: str, tiny_path: Path, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    content = {"zero.jpg": b"", "text.jpg": b"not a picture"}
    for suffix in (".jpg", ".png"):
        whole = cv2.imencode(suffix, picture)[1].tobytes()
        content[f"truncated{suffix}"] = whole[: len(whole) // 2]
    path = tmp_path / name
    if name.endswith("/"):
        path.mkdir()
    elif name.endswith(".mp4"):
        cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 64)).release()
    else:
        path.write_bytes(content[name])
    done = subprocess.run(
        program("run", "--source", path, "--label", "dog", "--label", "cat", "--bundle", tiny_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (BAD_DATA, "")
    assert len(done.stderr.splitlines()) == 2, done.stderr
    assert done.stderr.startswith(f"error: {tmp_path / name}")


def test_what_is_no_bundle_archive_is_bad_data_in_one_message(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "bundle.tar"
    path.write_bytes(b"not an archive" * 1000)
    assert main(["run", "--source", "demo", "--bundle", str(path)]) == BAD_DATA
    assert str(path) in complaint(capsys)


def test_a_missing_source_is_unavailable(capsys: Captured) -> None:
    assert main(["run", "--source", "/no/such/clip.mp4"]) == UNAVAILABLE
    assert "/no/such/clip.mp4" in complaint(capsys)


def test_a_password_is_never_said(capsys: Captured) -> None:
    assert main(["run", "--source", "gopher://me:secret@camera/x"]) == UNAVAILABLE
    assert "secret" not in complaint(capsys)


def test_a_missing_bundle_is_bad_data(tmp_path: Path, capsys: Captured) -> None:
    assert main(["run", "--source", "demo", "--bundle", str(tmp_path / "none")]) == BAD_DATA
    assert str(tmp_path / "none") in complaint(capsys)


def test_json_is_one_object_per_frame_and_none_is_lost(
    tiny_path: Path, clip: Path, labels: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--source", str(clip), "--labels", str(labels), "--bundle", str(tiny_path), "--json"]) == 0
    said = capfd.readouterr()
    objects = [json.loads(line) for line in said.out.splitlines()]
    assert [one["frame"] for one in objects] == list(range(25))
    assert all(set(one["scores"]) == {"dog", "cat", "red cup"} for one in objects)
    best = [max(one["scores"], key=one["scores"].get) if one["unknown"] < 0.5 else "unknown" for one in objects]
    assert [one["label"] for one in objects] == best
    assert "25 frames" in said.err


def test_a_run_from_a_config_file_and_the_environment(
    tiny_path: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "edgeclip.yaml", tmp_path / "out.jsonl"
    config.write_text(f"source: {clip}\nlabel: [dog, cat]\nsink: 'jsonl:{out}'\nmax_frames: 20\n")
    monkeypatch.setenv("EDGECLIP_BUNDLE", str(tiny_path))
    monkeypatch.setenv("EDGECLIP_TOP", "1")
    assert main(["run", "--config", str(config), "--max-frames", "3"]) == 0
    objects = [json.loads(line) for line in out.read_text().splitlines()]
    assert [len(one["scores"]) for one in objects] == [1, 1, 1]
    assert "clip.mp4  frame 0" in capfd.readouterr().out


def test_pictures_get_a_line_each_a_recording_and_a_snapshot(
    tiny_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shots"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((120, 160, 3), 80 * number, np.uint8))
    options = ["--label", "dog", "--label", "cat", "--bundle", tiny_path]
    options += ["--record", tmp_path / "out.mp4", "--snapshot", tmp_path / "out.png"]
    assert main(["run", "--source", str(folder), *map(str, options)]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 3
    assert cv2.imread(str(tmp_path / "out.png"))[0, 0].tolist() == [160, 160, 160]
    assert cv2.VideoCapture(str(tmp_path / "out.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_a_bad_picture_in_a_folder_is_told_after_all_others(
    tiny_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shots"
    folder.mkdir()
    for number in (1, 3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((120, 160, 3), 80 * number, np.uint8))
    (folder / "2.png").write_bytes(b"no picture")
    options = ["--label", "dog", "--bundle", str(tiny_path), "--json", "--snapshot", str(tmp_path / "out.png")]
    assert main(["run", "--source", str(folder), *options]) == BAD_DATA
    said = capfd.readouterr()
    named = [json.loads(line)["picture"] for line in said.out.splitlines()]
    assert named == [str(folder / "1.png"), str(folder / "3.png")]
    assert "1 of 3 pictures could not be read" in said.err
    assert cv2.imread(str(tmp_path / "out.png"))[0, 0].tolist() == [240, 240, 240]


def test_pictures_whose_names_are_not_utf8_are_named_in_every_output(
    tiny_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shots"
    folder.mkdir()
    for name in (b"caf\xe9.png", b"th\xe9.png"):
        pixels = cv2.imencode(".png", np.full((120, 160, 3), 90, np.uint8))[1].tobytes()
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(pixels)
    command = ["run", "--source", str(folder), "--label", "dog", "--bundle", str(tiny_path)]
    for more in (["--json"], ["--record", str(tmp_path / "out.mp4")], ["--snapshot", str(tmp_path / "out.png")]):
        assert main([*command, *more]) == 0
        lines = capfd.readouterr().out.splitlines()
        names = [json.loads(line)["picture"] for line in lines] if "--json" in more else [line[26:] for line in lines]
        assert [name.partition(".png")[0] for name in names] == [f"{folder}/caf\\xe9", f"{folder}/th\\xe9"]
    assert (tmp_path / "out.png").exists()
    assert (tmp_path / "out.mp4").exists()


def test_without_labels_the_everyday_ones_are_used_and_said(
    tiny_path: Path, clip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--source", str(clip), "--bundle", str(tiny_path), "--max-frames", "1"]) == 0
    assert "built-in everyday" in capfd.readouterr().err


def test_a_missing_camera_is_unavailable_in_one_message(
    tiny_path: Path, labels: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--camera", "63", "--labels", str(labels), "--bundle", str(tiny_path)]) == UNAVAILABLE
    assert "/dev/video63" in complaint(capfd)  # and nothing of OpenCV's or FFmpeg's own


def test_a_damaged_bundle_is_bad_data(tiny_path: Path, clip: Path, tmp_path: Path, capsys: Captured) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_path, copy)
    with (copy / "image.tflite").open("r+b") as stream:
        stream.seek(100)
        stream.write(b"damage")
    assert main(["run", "--source", str(clip), "--bundle", str(copy)]) == BAD_DATA
    assert "image.tflite" in complaint(capsys)


def test_an_unknown_sink_is_a_usage_error_that_lists_the_known(tiny_path: Path, clip: Path, capsys: Captured) -> None:
    options = ["--source", str(clip), "--label", "dog", "--bundle", str(tiny_path), "--sink", "mqqts://broker"]
    assert main(["run", *options]) == USAGE
    assert "jsonl:PATH" in complaint(capsys)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_cleanly_with_a_summary(
    number: signal.Signals, tiny_path: Path, labels: Path, tmp_path: Path, rtsp: RtspServer
) -> None:
    recording = tmp_path / "out.mp4"
    options = ("--source", rtsp.url, "--labels", labels, "--bundle", tiny_path, "--json", "--record", recording)
    with subprocess.Popen(program("run", *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        for _ in range(3):
            json.loads(child.stdout.readline())
        child.send_signal(number)
        out, err = child.communicate(timeout=20)
    assert child.returncode == 0
    assert re.search(rb"^edgeclip: \d+ frames in .* fps, .* dropped, frame age p50 .* p95", err, re.MULTILINE)
    assert b"Traceback" not in err
    assert all(json.loads(line) for line in out.splitlines())
    assert cv2.VideoCapture(str(recording)).read()[0]


def said_until(child: subprocess.Popen[bytes], text: bytes) -> bytes:
    """What it says on standard error, up to the line with the text; its decisions wait in the pipe meanwhile."""
    assert child.stderr is not None
    said = b""
    while text not in said:
        line = child.stderr.readline()
        assert line, f"it ended without a word of {text!r}: {said!r}"
        said += line
    return said


def test_labels_edited_during_a_run_come_into_force_and_bad_edits_do_not(
    tiny_path: Path, labels: Path, rtsp: RtspServer
) -> None:
    options = ("--source", rtsp.url, "--labels", labels, "--bundle", tiny_path, "--json")
    with subprocess.Popen(program("run", *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        stdout = child.stdout
        assert stdout is not None

        def wait_for(names: set[str]) -> None:
            deadline_s = time.monotonic() + 20
            while set(json.loads(stdout.readline())["scores"]) != names:
                assert time.monotonic() < deadline_s

        try:
            wait_for({"dog", "cat", "red cup"})
            labels.write_text("dog\ndog\n")
            said = said_until(child, b"the old ones stay")
            labels.write_text("tree\nhouse\n")
            wait_for({"tree", "house"})
        finally:
            child.terminate()
            _, err = child.communicate(timeout=20)
    err = said + err
    assert err.count(b"the old ones stay") == 1
    assert b"labels.txt:2" in err


def test_watches_edited_during_a_run_come_into_force_and_bad_edits_do_not(
    tiny_path: Path, tmp_path: Path, rtsp: RtspServer
) -> None:
    path = tmp_path / "watches.yaml"
    path.write_text("labels: [dog, cat]\nwatches: [{name: red cup}]\n")
    options = ("--source", rtsp.url, "--watch", path, "--bundle", tiny_path, "--json")
    with subprocess.Popen(program("run", *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        stdout = child.stdout
        assert stdout is not None

        def wait_for(watches: set[str], labels: set[str]) -> None:
            deadline_s = time.monotonic() + 20
            now = None
            while now != (watches, labels):
                assert time.monotonic() < deadline_s
                one = json.loads(stdout.readline())
                now = set(one["watches"]), set(one["scores"])
                assert now in (({"red cup"}, {"dog", "cat"}), (watches, labels)), "half of an edit is in force"

        try:
            wait_for({"red cup"}, {"dog", "cat"})
            path.write_text("watches:\n  - name: red cup\n    entr: 0.9\n")
            said = said_until(child, b"the old ones stay")
            path.write_text("labels: [tree]\nwatches: [{name: house, region: {box: [0, 0, 0.5, 1]}}, {name: dog}]\n")
            wait_for({"house", "dog"}, {"tree"})
        finally:
            child.terminate()
            _, err = child.communicate(timeout=20)
    err = said + err
    assert err.count(b"watches not changed, the old ones stay") == 1
    assert b"watches.yaml:3: unknown key `watches.0.entr` (did you mean `enter`?)" in err
    assert b"watches changed: 2 watches and 1 labels in force" in err


def test_watches_alone_and_beside_labels(
    tiny_path: Path, clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "watches.yaml"
    path.write_text("watches: [{name: red cup, negatives: a tree}]\n")
    words = ["run", "--source", str(clip), "--watch", str(path), "--bundle", str(tiny_path), "--max-frames", "2"]
    assert main([*words, "--json"]) == 0
    one = json.loads(capfd.readouterr().out.splitlines()[0])
    assert (one["label"], one["scores"], set(one["watches"])) == (None, {}, {"red cup"})
    assert main(words) == 0
    assert "red cup" in capfd.readouterr().out
    assert main([*words, "--json", "--label", "dog", "--unknown", "0"]) == 0
    one = json.loads(capfd.readouterr().out.splitlines()[0])
    assert (one["label"], one["unknown"]) == ("dog", 0.0)
    path.write_text("labels: [tree]\n")
    assert main([*words, "--label", "dog"]) == USAGE
    path.write_text("watches: [{nme: x}]\n")
    capfd.readouterr()
    assert main(words) == BAD_DATA
    assert "did you mean `name`" in capfd.readouterr().err


def test_an_engine_of_several_frames_takes_one_as_well(
    clip: Path, labels: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all that looks at pictures; `compile --batch` makes such engines, for several cameras."""
    monkeypatch.setenv("EDGECLIP_STATE", str(tmp_path / "state"))
    directory = write_bundle(tmp_path / "several")
    write_image_tflite(directory / "image.tflite", Weights(), batch=3)
    write_image_onnx(directory / "image.onnx", Weights(), batch=3)
    write_digests(directory)
    pictures = tmp_path / "pictures"
    for number, name in enumerate(("dog", "cat")):
        (pictures / name).mkdir(parents=True)
        cv2.imwrite(
            str(pictures / name / "1.png"), np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
        )
    for words in (
        ["run", "--source", str(clip), "--max-frames", "2", "--labels", str(labels)],
        ["eval", str(pictures), "--labels", str(labels)],
        ["capture", "--source", str(pictures / "dog"), "--out", str(tmp_path / "set")],
        ["teach", "dog", str(pictures / "dog")],
    ):
        assert main([*words, "--bundle", str(directory)]) == 0, capfd.readouterr().err
