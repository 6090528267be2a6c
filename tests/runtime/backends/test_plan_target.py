"""Which plans run on which device: facts against facts."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeclip.bundle import Target
from edgeclip.errors import EngineError
from edgeclip.runtime.backends import plan_target
from edgeclip.runtime.backends.plan_target import (
    DeviceFacts,
    StalePlan,
    gpu_arch,
    jetpack,
    jetpack_name,
    mismatches,
    require_match,
    runs_here,
)

ORIN = DeviceFacts("tensorrt", "10.3.0", "sm_87", "36.4.0")
DESKTOP = DeviceFacts("tensorrt", "10.3.0.26", "sm_89", "")
RTX = DeviceFacts("tensorrt-rtx", "1.7.1.116", "sm_120", "")


@pytest.mark.parametrize(
    ("target", "device"),
    [
        (Target("tensorrt", "10.3.0", "sm_87", "36.4.0"), ORIN),
        (Target("tensorrt", "10.3.0.30", "sm_87", "36.4.3"), ORIN),  # a bug fix of the same release
        (Target("tensorrt", "10.3.0", "sm_89", ""), DESKTOP),
        (Target("tensorrt", "10.1+", "sm_89", ""), DESKTOP),
        (Target("tensorrt", "10.3.0", "sm_80+", ""), DESKTOP),
        (Target("tensorrt-rtx", "1.7.1.116", "sm_86,sm_89,sm_120", ""), RTX),
    ],
)
def test_runs(target: Target, device: DeviceFacts) -> None:
    assert mismatches(target, device) == []
    require_match(target, "image.plan", device)


@pytest.mark.parametrize(
    ("target", "device", "words"),
    [
        (Target("tensorrt", "8.6.2", "sm_87", "36.4.0"), ORIN, ["compiled by tensorrt 8.6.2, and this is 10.3.0"]),
        (Target("tensorrt", "10.3.1", "sm_87", "36.4.0"), ORIN, ["10.3.1, and this is 10.3.0"]),
        (Target("tensorrt", "10.4+", "sm_89", ""), DESKTOP, ["10.4+, and this is 10.3.0"]),
        (Target("tensorrt", "8.6+", "sm_89", ""), DESKTOP, ["8.6+, and this is 10.3.0"]),
        (Target("tensorrt", "10.3.0", "sm_86", ""), DESKTOP, ["compiled for sm_86, and this GPU is sm_89"]),
        (Target("tensorrt", "10.3.0", "sm_90+", ""), DESKTOP, ["compiled for sm_90+, and this GPU is sm_89"]),
        (Target("tensorrt-rtx", "1.7.1", "sm_86,sm_89", ""), RTX, ["for sm_86, sm_89, and this GPU is sm_120"]),
        (
            Target("tensorrt", "10.3.0", "sm_87", "36.3.0"),
            ORIN,
            ["compiled on JetPack 6 (L4T 36.3.0), and this is JetPack 6 (L4T 36.4.0)"],
        ),
        (
            Target("tensorrt", "8.5.2", "sm_87", "35.4.1"),
            ORIN,
            ["tensorrt 8.5.2, and this is 10.3.0", "JetPack 5 (L4T 35.4.1), and this is JetPack 6 (L4T 36.4.0)"],
        ),
        (
            Target("tensorrt", "10.3.0", "sm_87", "36.4.0"),
            DESKTOP,
            ["sm_87, and this GPU is sm_89", "JetPack 6 (L4T 36.4.0), and this is no Jetson"],
        ),
        (Target("tensorrt", "", "", ""), DESKTOP, ["compiled by tensorrt", "compiled for"]),
    ],
)
def test_is_refused_in_plain_words_with_the_command(target: Target, device: DeviceFacts, words: list[str]) -> None:
    found = mismatches(target, device)
    assert len(found) == len(words)
    for word, sentence in zip(words, found, strict=True):
        assert word in sentence
    with pytest.raises(StalePlan) as caught:
        require_match(target, "image.plan", device)
    assert caught.value.message.startswith("image.plan is not for this device: ")
    assert caught.value.hint == "edgeclip compile BUNDLE"
    assert caught.value.runtime == target.runtime
    assert caught.value.exit_code == 69


def test_what_is_missing_is_another_error() -> None:
    target = Target("tensorrt", "10.3.0", "sm_87", "36.4.0")
    with pytest.raises(EngineError, match="tensorrt cannot be imported here") as caught:
        require_match(target, "image.plan", DeviceFacts("tensorrt", "", "sm_87", "36.4.0"))
    assert "python3-libnvinfer" in caught.value.hint
    assert not isinstance(caught.value, StalePlan)


@pytest.mark.skipif(bool(gpu_arch()), reason="there is a GPU here")
def test_without_a_gpu_that_is_said() -> None:
    target = Target("tensorrt", "10.3.0", "sm_87", "36.4.0")
    with pytest.raises(EngineError, match="no NVIDIA") as caught:
        require_match(target, "image.plan", DeviceFacts("tensorrt", "10.3.0", "", ""))
    assert not isinstance(caught.value, StalePlan)
    assert not runs_here(target)


@pytest.mark.parametrize(
    ("line", "version", "name"),
    [
        (
            "# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64, DATE: Fri Sep 13",
            "36.4.0",
            "JetPack 6 (L4T 36.4.0)",
        ),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178", "35.4.1", "JetPack 5 (L4T 35.4.1)"),
        ("# R38 (release), REVISION: 2.0", "38.2.0", "JetPack 7 (L4T 38.2.0)"),
        ("# R40 (release), REVISION: 1.0", "40.1.0", "L4T 40.1.0"),
        ("something else", "unknown", "L4T unknown"),
    ],
)
def test_jetpack_is_read_from_its_file(tmp_path: Path, line: str, version: str, name: str) -> None:
    path = tmp_path / "nv_tegra_release"
    path.write_text(line + "\n")
    assert jetpack(path) == version
    assert jetpack_name(version) == name


def test_other_machines_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_target, "TEGRA", tmp_path / "nothing")
    assert jetpack() == ""
