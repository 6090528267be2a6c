from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tiny_bundle import DIM, Weights, engine, write_bundle

from edgeclip import doctor, trial
from edgeclip.bundle import Bundle, open_bundle
from edgeclip.doctor import Check, diagnose
from edgeclip.install import Policy, install, sign_bundle
from edgeclip.runtime.backends import Backend, candidates
from edgeclip.runtime.backends.plan_target import StalePlan, gpu_arch
from edgeclip.selftest import Passed
from edgeclip.signature import make_keys
from edgeclip.store import Store
from edgeclip.trial import Trial, try_engine


@pytest.fixture(scope="module")
def checks(tiny_path: Path) -> list[Check]:
    return diagnose(tiny_path)


def named(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_every_engine_really_runs(checks: list[Check]) -> None:
    for name in ("image.tflite on litert", "image.onnx on onnxruntime"):
        check = named(checks, name)
        assert check.status == "ok"
        assert "golden cosine 1.0000 (mean-centred 1.0000)" in check.detail
        assert " ms, " in check.detail
    assert named(checks, "text.tflite on litert").status == "ok"
    assert not [check for check in checks if check.status == "fail"]


def test_says_what_it_is_and_can(checks: list[Check]) -> None:
    assert named(checks, "opencv").detail.startswith(f"NumPy {np.__version__}, OpenCV")
    assert named(checks, "files, rtsp, http").status == "ok"
    assert "tiny: 32x32 pixels to 16 dimensions" in named(checks, "bundle").detail
    assert "cores for this process" in named(checks, "processor, memory").detail
    assert {"python", "csi, gst", "demo", "tensorrt", "tensorrt-rtx", "cache"} <= {check.name for check in checks}


def test_what_does_not_work_comes_with_a_remedy(checks: list[Check]) -> None:
    assert all(check.fix for check in checks if check.status != "ok")


def test_is_json(checks: list[Check]) -> None:
    decoded = msgspec.json.decode(msgspec.json.encode(checks), type=list[Check])
    assert decoded == checks


def test_a_bundle_that_cannot_be_opened_fails_and_the_rest_is_still_said(tmp_path: Path) -> None:
    checks = diagnose(tmp_path)
    assert named(checks, "bundle").status == "fail"
    assert named(checks, "python")
    assert named(checks, "processor, memory")


def test_an_engine_that_computes_wrongly_fails(tmp_path: Path) -> None:
    broken = Weights(image_bias=np.full(DIM, np.nan, np.float32))
    forms = (engine("image", "tflite", "litert"), engine("text", "tflite", "litert"))
    checks = doctor.engines(open_bundle(write_bundle(tmp_path / "b", broken, forms)))
    assert [(check.name, check.status) for check in checks] == [
        ("image.tflite on litert", "warn"),
        ("image engines", "fail"),
        ("text.tflite on litert", "ok"),
    ]
    assert "not finite" in checks[0].detail
    assert "every frame needs one" in checks[1].detail


@pytest.mark.skipif(bool(gpu_arch()), reason="there is a GPU here")
def test_plan_engines_are_named(tmp_path: Path) -> None:
    forms = (engine("image", "plan", "tensorrt"), engine("image", "onnx"), engine("text", "onnx"))
    checks = doctor.engines(open_bundle(write_bundle(tmp_path / "b", engines=forms)))
    assert (checks[0].name, checks[0].status) == ("image.plan on tensorrt", "ok")
    assert checks[0].detail.startswith("for tensorrt: ")
    assert checks[0].detail.endswith("and not needed: another runs")
    assert checks[0].fix


def test_a_missing_runtime_matters_only_where_nothing_else_runs(tiny: Bundle) -> None:
    entry = tiny.engines("image")[0]
    backend = candidates(entry)[0][0]
    absent = Trial(missing=True, error="No module named 'x'")
    assert doctor.engine(entry, backend, absent, spare=True).status == "ok"
    needed = doctor.engine(entry, backend, absent, spare=False)
    assert (needed.status, needed.fix) == ("warn", "pip install ai-edge-litert")


def python_that(code: str, folder: Path) -> str:
    """An interpreter that runs `code` instead of what it is asked to."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "it crashed (SIGILL)"),
        ("import sys; print('no such thing', file=sys.stderr); sys.exit(3)", "it failed: no such thing"),
        ("import time; time.sleep(60)", "no inference within"),
    ],
)
def test_a_runtime_that_crashes_takes_only_its_trial_with_it(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, complaint: str
) -> None:
    monkeypatch.setattr(trial.sys, "executable", python_that(code, tmp_path))
    monkeypatch.setattr(trial, "LIMIT_S", 1.0 if "sleep" in code else 60.0)
    entry = tiny.engines("image")[0]
    backend: Backend = candidates(entry)[0][0]
    result = try_engine(tiny, entry, backend)
    assert result.error.startswith(complaint)
    assert backend.install in result.hint


def test_a_runtime_that_is_not_installed_is_told_from_one_that_fails(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "edgeclip.runtime.backends.onnxruntime", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = trial.run_trial(str(tiny.path), "image.onnx", "onnxruntime")
    assert result.missing
    assert "edgeclip[onnx]" in result.hint


def test_cameras_and_their_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "video0"
    path.touch()
    monkeypatch.setattr(doctor.glob, "glob", lambda _: [str(path)])
    assert [check.status for check in doctor.cameras()] == ["ok"]
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    denied = doctor.cameras()[0]
    assert (denied.name, denied.status) == (str(path), "warn")
    assert "usermod -aG video" in denied.fix
    monkeypatch.setattr(doctor.glob, "glob", lambda _: [])
    assert doctor.cameras()[0].status == "warn"


def test_what_opencv_was_built_with() -> None:
    assert doctor.gstreamer("  GStreamer:                   YES (1.20.3)").status == "ok"
    assert doctor.gstreamer("  GStreamer:                   NO").status == "warn"
    assert doctor.ffmpeg("    FFMPEG:                      NO").status == "warn"


def test_opencv_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    checks = doctor.opencv()
    assert [(check.name, check.status) for check in checks] == [("opencv", "fail")]
    assert checks[0].fix


def test_a_jetson_without_its_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = tmp_path / "nv_tegra_release"
    release.write_text("# R36 (release), REVISION: 4.0, GCID: 1, BOARD: generic\n")
    monkeypatch.setattr(doctor, "TEGRA", release)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    check = doctor.tensorrt()
    assert check.status == "warn"
    assert "R36 (release), REVISION: 4.0" in check.detail
    assert "system-site-packages" in check.fix


def test_the_cache_and_its_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECLIP_CACHE", str(tmp_path / "not" / "yet"))
    assert doctor.cache().status == "ok"
    assert not (tmp_path / "not").exists()
    monkeypatch.setattr(doctor, "ENOUGH_DISK_MB", float("inf"))
    assert "left on its disk" in doctor.cache().detail
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert "cannot be written" in doctor.cache().detail


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ENOUGH_MEMORY_MB", float("inf"))
    check = doctor.processor()
    assert check.status == "warn"
    assert f"{len(os.sched_getaffinity(0))} cores" in check.detail


def test_a_plan_for_another_device_is_a_warning_with_the_command(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = engine("image", "plan", "tensorrt")
    backend = candidates(entry)[0][0]

    def refuse(*arguments: object, **options: object) -> None:
        raise StalePlan(
            "image.plan is not for this device: it was compiled for sm_86", "edgeclip compile B", "tensorrt"
        )

    monkeypatch.setattr(trial, "open_engine", refuse)
    refused = trial.run_trial(str(tiny.path), "image.onnx", "onnxruntime")
    assert (refused.elsewhere, refused.missing) == (True, False)
    check = doctor.engine(entry, backend, refused, spare=True)
    assert (check.status, check.fix) == ("warn", "edgeclip compile B")
    assert check.detail == "for tensorrt: image.plan is not for this device: it was compiled for sm_86"


def test_the_bundle_in_force_is_held_against_the_keys_of_today(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECLIP_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("EDGECLIP_KEYS", str(tmp_path / "keys"))
    assert doctor.bundle_in_force() == []
    signed = shutil.copytree(tiny_path, tmp_path / "signed")
    public, _ = make_keys(tmp_path / "site.pem")
    (tmp_path / "keys").mkdir()
    shutil.copy(public, tmp_path / "keys")
    sign_bundle(signed, tmp_path / "site.pem")
    name = install(signed, Store(tmp_path / "state" / "bundles"), Policy(), lambda fresh: Passed("none", 0, 1.0)).name
    (check,) = doctor.bundle_in_force()
    assert check.status == "ok"
    assert check.detail.startswith(f"{name}, whole, signed by site (")
    monkeypatch.setenv("EDGECLIP_REQUIRE_SIGNATURE", "true")
    make_keys(tmp_path / "keys" / "other.pem")
    (tmp_path / "keys" / "other.pem").unlink()
    (tmp_path / "keys" / "site.pub.pem").unlink()  # stolen, and so deleted
    (check,) = doctor.bundle_in_force()
    assert check.status == "warn"
    assert "not trusted here" in check.detail
    assert "bundle install" in check.fix
