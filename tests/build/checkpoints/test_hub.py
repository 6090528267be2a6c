"""Downloads from a hub, which is a local server here: interrupted, resumed, recorded, enforced, offline."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeclip.build.checkpoints import hub
from edgeclip.build.checkpoints.hub import HubModel, fetch
from edgeclip.build.recipe import load_plan
from edgeclip.build.source import Model, plan_of, recipes_directory
from edgeclip.errors import ConfigError, DataError, EngineError
from edgeclip.progress import Silent

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG, WEIGHTS = b'{"model_type": "clip"}', bytes(range(256)) * 8192


class Hub(http.server.BaseHTTPRequestHandler):
    """Large files lie behind a redirect that alone names the commit, as on the real one."""

    files: dict[str, bytes]
    cuts: int  # so many answers break off half-way
    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Range")))
        name = self.path.rpartition("/")[2]
        if name not in self.files:
            self.send_error(404)
            return
        if self.path.startswith("/org/") and name.endswith(".safetensors"):
            self.send_response(302)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Location", f"/elsewhere/{name}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.files[name]
        tag = f'"{hashlib.sha256(body).hexdigest()}"'
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and condition == tag else 0
        self.send_response(206 if begin else 200)
        self.send_header("ETag", tag)
        self.send_header("X-Repo-Commit", COMMIT)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        rest = body[begin:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if name.endswith(".safetensors") and type(self).cuts > 0:
            type(self).cuts -= 1
            self.wfile.write(rest[: len(rest) // 2])
            self.close_connection = True
            return
        self.wfile.write(rest)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Hub]]:
    class Own(Hub):
        cuts = 0

    Own.files, Own.asked = {"config.json": CONFIG, "model.safetensors": WEIGHTS}, []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv(hub.HUB_VARIABLE, f"http://127.0.0.1:{running.server_port}")
    monkeypatch.setenv(hub.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "pause_s", lambda attempt: 0.0)
    yield Own
    running.shutdown()
    running.server_close()
    thread.join()


MODEL = HubModel("huggingface", "org/clip", ("config.json", "model.safetensors"), "MIT")


def fetched(folder: Path, model: HubModel = MODEL) -> Path:
    place = fetch("clip", model, folder / "clip.yaml", Silent())
    assert (place.loader, place.licence) == ("huggingface", "MIT")
    assert place.origin == f"org/clip at {COMMIT}"
    return Path(place.path)


def test_an_interrupted_download_goes_on_and_is_recorded(server: type[Hub], tmp_path: Path) -> None:
    server.cuts = 2
    folder = fetched(tmp_path)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    half, three_quarters = len(WEIGHTS) // 2, len(WEIGHTS) * 3 // 4
    ranges = [wanted for path, wanted in server.asked if path.startswith("/elsewhere/")]
    assert ranges == [None, f"bytes={half}-", f"bytes={three_quarters}-"]
    lock = json.loads((tmp_path / "clip.lock.json").read_text())
    assert lock["commit"] == COMMIT
    assert lock["files"]["model.safetensors"] == {"sha256": hashlib.sha256(WEIGHTS).hexdigest(), "bytes": len(WEIGHTS)}


def test_the_second_time_no_network_is_needed(server: type[Hub], tmp_path: Path, monkeypatch) -> None:
    folder = fetched(tmp_path)
    server.asked.clear()
    monkeypatch.setenv(hub.HUB_VARIABLE, "http://127.0.0.1:9")
    assert fetched(tmp_path) == folder
    assert server.asked == []


def test_later_downloads_take_the_recorded_commit_and_nothing_else(server: type[Hub], tmp_path: Path) -> None:
    folder = fetched(tmp_path)
    (folder / "model.safetensors").write_bytes(b"damaged")
    server.asked.clear()
    fetched(tmp_path)
    assert server.asked[0][0] == f"/org/clip/resolve/{COMMIT}/model.safetensors"
    server.files["model.safetensors"] = WEIGHTS[::-1]
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match="was recorded") as caught:
        fetched(tmp_path)
    assert caught.value.exit_code == 65
    assert not (folder / "model.safetensors").exists()


def test_a_file_that_changed_between_two_attempts_is_begun_anew(server: type[Hub], tmp_path: Path) -> None:
    fresh = tmp_path / "cache" / "models" / "org--clip" / "fresh-main"
    fresh.mkdir(parents=True)
    (fresh / ".model.safetensors.part").write_bytes(b"of an older file")
    (fresh / ".model.safetensors.part.tag").write_text('"older"')
    assert (fetched(tmp_path) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_first_download_that_was_stopped_goes_on_at_its_own_commit(server: type[Hub], tmp_path: Path) -> None:
    weights = server.files.pop("model.safetensors")
    with pytest.raises(DataError, match="404"):
        fetched(tmp_path)  # stopped behind config.json
    server.files["model.safetensors"] = weights
    server.asked.clear()
    fetched(tmp_path)
    assert server.asked[0][0] == f"/org/clip/resolve/{COMMIT}/model.safetensors"  # and not main


def test_files_that_are_there_and_not_recorded_are_recorded(server: type[Hub], tmp_path: Path) -> None:
    """Stopped between the last file and the lock: what is built from is what is enforced from then on."""
    fresh = tmp_path / "cache" / "models" / "org--clip" / "fresh-main"
    fresh.mkdir(parents=True)
    (fresh / "config.json").write_bytes(CONFIG)
    (fresh / "model.safetensors").write_bytes(WEIGHTS)
    (fresh / ".commit").write_text(COMMIT)
    folder = fetched(tmp_path)
    assert server.asked == []
    assert folder.name == COMMIT
    lock = json.loads((tmp_path / "clip.lock.json").read_text())
    assert lock["files"]["model.safetensors"]["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()


def test_a_recipe_that_names_other_files_than_its_lock(server: type[Hub], tmp_path: Path) -> None:
    fetched(tmp_path)
    with pytest.raises(ConfigError, match="the recipe names other files"):
        fetched(tmp_path, HubModel("huggingface", "org/clip", ("config.json",), "MIT"))
    (tmp_path / "clip.lock.json").write_text("{")
    with pytest.raises(DataError, match=r"clip\.lock\.json"):
        fetched(tmp_path)


def test_a_hub_that_lacks_the_file_or_is_not_there(server: type[Hub], tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(DataError, match="404") as missing:
        fetched(tmp_path, HubModel("huggingface", "org/clip", ("spiece.model",), "MIT"))
    assert "given as a directory" in missing.value.hint
    monkeypatch.setenv(hub.HUB_VARIABLE, "http://127.0.0.1:9")
    with pytest.raises(EngineError, match="cannot be downloaded") as caught:
        fetched(tmp_path)
    assert caught.value.exit_code == 69
    assert not (tmp_path / "clip.lock.json").exists()


@pytest.mark.parametrize("recipe", sorted(recipes_directory().glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_we_ship_can_be_read(recipe: Path) -> None:
    if recipe.stem.endswith("-train"):
        return
    plan = load_plan(recipe)
    assert plan.recipe.name == recipe.stem
    if plan.recipe.model is not None:
        assert plan.recipe.model.licence


def test_models_are_found_by_name() -> None:
    assert plan_of(None, Model(model="nano"))[0].recipe.name == "nano"
    with pytest.raises(DataError, match="neither a model edgeclip knows nor a path") as caught:
        plan_of(None, Model(model="mobileclip9"))
    assert "mobileclip2-s0" in caught.value.hint
