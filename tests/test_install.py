from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import msgspec
import pytest
from soak_install import soak
from tiny_bundle import Weights, write_bundle

from edgeclip import bundles
from edgeclip.bundle import open_bundle, write_digests
from edgeclip.cli import main
from edgeclip.errors import BAD_DATA, OK, DataError, EdgeclipError, UsageError
from edgeclip.install import Policy, install
from edgeclip.selftest import Limits, Passed, self_test
from edgeclip.store import CURRENT, PREVIOUS, Store


def untested(fresh: Path) -> Passed:
    return Passed("none", 0, 1.0)


def another(folder: Path, **changes: object) -> Path:
    """The tiny bundle, with other facts in its manifest."""
    bundle = write_bundle(folder)
    facts = msgspec.json.decode((bundle / "manifest.json").read_bytes())
    (bundle / "manifest.json").write_bytes(msgspec.json.encode({**facts, **changes}))
    write_digests(bundle)
    return bundle


def test_a_bundle_is_tested_here_and_put_in_force(tiny_path: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "bundles")
    done = install(tiny_path, store, Policy())
    assert done.tested is not None
    assert done.tested.frames == 6
    assert done.tested.min_cosine > 0.99
    assert store.target(CURRENT) == done.name
    assert done.name.startswith("tiny-")
    assert open_bundle(store.path / CURRENT).path == store.path / done.name
    assert install(tiny_path, store, Policy()).tested is None


def test_another_space_comes_in_only_when_asked_for(tiny_path: Path, tmp_path: Path) -> None:
    store, other = Store(tmp_path / "bundles"), another(tmp_path / "other", space="sha256:" + "9" * 64)
    install(tiny_path, store, Policy(), untested)
    with pytest.raises(DataError, match="another embedding space"):
        install(other, store, Policy(), untested)
    assert len(store.names()) == 1
    assert store.target(CURRENT) == install(tiny_path, store, Policy(), untested).name
    assert install(other, store, Policy(new_space=True), untested).name == store.target(CURRENT)


def test_the_store_keeps_two(tmp_path: Path) -> None:
    store = Store(tmp_path / "bundles")
    made = []
    for day in (1, 2, 3):
        made.append(
            install(another(tmp_path / f"{day}", created=f"2026-01-0{day}T00:00:00Z"), store, Policy(), untested)
        )
        store.confirm(made[-1].name)
    assert store.names() == sorted([made[1].name, made[2].name])
    assert store.target(PREVIOUS) == made[1].name


def test_one_that_was_damaged_in_the_store_is_laid_down_anew(tiny_path: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "bundles")
    name = install(tiny_path, store, Policy(), untested).name
    (store.path / name / "image.tflite").write_bytes(b"rot")
    again = install(tiny_path, store, Policy(), untested)
    assert again.name == f"{name}-2" == store.target(CURRENT)
    open_bundle(store.path / CURRENT)


def test_a_disk_that_is_too_small_is_told(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "bundles")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    with pytest.raises(EdgeclipError, match="1 MiB free"):
        install(tiny_path, store, Policy(), untested)
    assert store.names() == []


def test_an_engine_that_answers_wrongly_is_refused(tmp_path: Path) -> None:
    import numpy as np

    wrong = write_bundle(tmp_path / "wrong", Weights(image=np.eye(16, 12, dtype=np.float32)))
    with pytest.raises(DataError, match="too far from the float model"):
        self_test(wrong)


@pytest.mark.parametrize(
    ("limits", "complaint"), [(Limits(timeout_s=0.05), "not done after"), (Limits(memory_mb=5), "MB of memory")]
)
def test_the_self_test_has_limits(tiny_path: Path, limits: Limits, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        self_test(tiny_path, limits)


def test_killed_at_any_moment_a_whole_bundle_is_in_force(tmp_path: Path) -> None:
    counts = soak(tmp_path, 20, real_every=0)
    assert counts["killed"] >= 5


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("EDGECLIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EDGECLIP_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("EDGECLIP_KEYS", str(tmp_path / "keys"))
    return tmp_path / "state"


def test_the_commands(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, keys = tmp_path / "site.pem", tmp_path / "keys"
    one, two = another(tmp_path / "one"), another(tmp_path / "two", created="2026-02-02T00:00:00Z")
    assert main(["bundle", "keygen", "--out", str(key)]) == OK
    keys.mkdir()
    shutil.copy(tmp_path / "site.pub.pem", keys)
    assert main(["bundle", "export", str(one), "--out", str(tmp_path / "one.tar")]) == OK
    assert main(["bundle", "verify", str(tmp_path / "one.tar"), "--require-signature"]) == BAD_DATA
    assert main(["bundle", "sign", str(tmp_path / "one.tar"), str(two), "--key", str(key)]) == OK
    capsys.readouterr()
    assert main(["bundle", "verify", str(tmp_path / "one.tar"), "--require-signature", "--json"]) == OK
    assert json.loads(capsys.readouterr().out)["signed_by"][0].startswith("site (")
    (tmp_path / "bad.tar").write_bytes((tmp_path / "one.tar").read_bytes()[:-20_000])
    archives = [str(tmp_path / "bad.tar"), str(tmp_path / "one.tar"), str(two)]
    assert main(["bundle", "install", *archives, "--require-signature", "--json"]) == BAD_DATA
    said = capsys.readouterr()
    assert "breaks off" in said.err
    assert [outcome["installed"] for outcome in json.loads(said.out)] == [False, True, True]
    assert main(["bundle", "list", "--json"]) == OK
    listed = json.loads(capsys.readouterr().out)
    names = {bundle["status"]: bundle["name"] for bundle in listed["bundles"]}
    assert listed["current"] == names["on probation"]
    assert main(["bundle", "confirm"]) == OK
    assert main(["bundle", "rollback"]) == OK
    assert main(["bundle", "remove", names["on probation"]]) == OK
    assert main(["bundle", "list"]) == OK
    assert "in force" in capsys.readouterr().out
    assert main(["inspect", "current"]) == OK


def test_the_policy_comes_from_the_configuration_whose_credentials_are_not_needed(
    state: Path, tmp_path: Path, tiny_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "edgeclip.yaml"
    config.write_text("source: 'rtsp://u:${credential:camera}@x/y'\nrequire_signature: true\n")
    keys = tmp_path / "keys"
    keys.mkdir()
    main(["bundle", "keygen", "--out", str(tmp_path / "k.pem")])
    shutil.copy(tmp_path / "k.pub.pem", keys)
    assert main(["bundle", "install", str(tiny_path), "--config", str(config)]) == BAD_DATA
    assert "is not signed, and require_signature is set" in capsys.readouterr().err


def test_a_refusal_names_no_place_that_is_gone_and_says_what_the_engine_said(tmp_path: Path) -> None:
    target = {"runtime": "tensorrt", "version": "8.5.2", "gpu_arch": "sm87", "jetpack": "5.1"}
    plan = {"role": "image", "file": "image.tflite", "format": "plan", "precision": "int8", "target": target}
    bundle, store = another(tmp_path / "plan", engines=[plan]), Store(tmp_path / "bundles")
    with pytest.raises(DataError, match="self-test on this device failed: the bundle has no image engine") as caught:
        install(bundle, store, Policy())
    assert ".incoming" not in caught.value.message + caught.value.hint
    assert "tensorrt" in caught.value.message


def test_what_a_newer_edgeclip_built_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown field `of_the_future`") as caught:
        install(another(tmp_path / "new", of_the_future=1), Store(tmp_path / "bundles"), Policy(), untested)
    assert "newer edgeclip" in caught.value.hint


def test_a_service_that_would_not_take_the_bundle_is_told(
    state: Path, tmp_path: Path, tiny_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "edgeclip.yaml"
    install_it = ["bundle", "install", str(tiny_path), "--config", str(config)]
    for text, told in (
        ("source: demo\n", f"once {config} says `bundle: current`, which it does not"),
        ("source: demo\nbundle: current\n", "is in force already"),
    ):
        config.write_text(text)
        assert main(install_it) == OK
        assert told in capsys.readouterr().out
    assert bundles.taken(Store(state / "bundles"), str(config)) == "a service takes it at `systemctl reload edgeclip`"
    config.write_text(f"bundle: {state}/bundles/current\n")
    assert bundles.taken(Store(state / "bundles"), str(config)) == "a service takes it at `systemctl reload edgeclip`"


def test_going_back_works_with_a_broken_configuration(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = another(tmp_path / "one"), another(tmp_path / "two", created="2026-02-02T00:00:00Z")
    store = Store(state / "bundles")
    names = [install(path, store, Policy(), untested).name for path in (one, two)]
    config = tmp_path / "broken.yaml"
    config.write_text("source: [\n")
    monkeypatch.setenv("EDGECLIP_CONFIG", str(config))
    assert main(["bundle", "rollback", "--from", names[0]]) == OK  # which is not in force: nothing to do
    assert "is not in force" in capsys.readouterr().out
    assert store.target(CURRENT) == names[1]
    assert main(["bundle", "rollback", "--from", names[1], "--json"]) == OK
    assert json.loads(capsys.readouterr().out) == {"from": names[1], "to": names[0], "changed": True}
    assert main(["bundle", "rollback", "--from", names[1]]) == OK
    assert store.target(CURRENT) == names[0]
    assert main(["bundle", "rollback"]) == UsageError.exit_code


def test_verify_and_export_are_about_the_bundle_in_force(
    state: Path, tmp_path: Path, tiny_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["verify"], ["export", "--out", str(tmp_path / "out.tar")]):
        assert main(["bundle", *command]) == BAD_DATA
        assert "no bundle is in force" in capsys.readouterr().err
    name = install(tiny_path, Store(state / "bundles"), Policy(), untested).name
    keys = tmp_path / "keys"
    keys.mkdir()
    main(["bundle", "keygen", "--out", str(tmp_path / "k.pem")])
    shutil.copy(tmp_path / "k.pub.pem", keys)
    assert main(["bundle", "verify"]) == OK
    assert main(["bundle", "verify", name, "--require-signature"]) == BAD_DATA  # as after its key was deleted
    assert main(["bundle", "export", "--out", str(tmp_path / "out.tar")]) == OK
    assert main(["bundle", "export", "nothing", "--out", str(tmp_path / "out.tar")]) == BAD_DATA
    assert "nothing is no file, nor the name of a bundle" in capsys.readouterr().err
    assert main(["bundle", "export", "--out", str(tmp_path / "out.tar.gz")]) == UsageError.exit_code
