from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

import edgeclip
from edgeclip.config import ELSEWHERE, FIELDS, PREFIX, Config, load_config
from edgeclip.errors import CONFIGURATION, ConfigError
from edgeclip.runtime.backends.plan_target import HOST_CODE


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "edgeclip.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_defaults() -> None:
    assert load_config({}, {}) == Config()


def test_flags_beat_environment_beats_file_beats_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "source: from-file\nfps: 1\ntop: 1\nthreads: 1\n")
    environment = {"EDGECLIP_FPS": "2", "EDGECLIP_TOP": "2", "PATH": "/bin"}
    config = load_config({"top": 3}, environment, path)
    assert (config.source, config.threads, config.fps, config.top) == (("from-file",), 1, 2.0, 3)
    assert config.max_frames is None


def test_a_list_may_be_one_text_or_several(tmp_path: Path) -> None:
    assert load_config({}, {}, written(tmp_path, "source: [demo, 'camera:0']\n")).source == ("demo", "camera:0")
    assert load_config({}, {}, written(tmp_path, "label: a dog\n")).label == ("a dog",)
    assert load_config({}, {"EDGECLIP_SINK": "lines:"}).sink == ("lines:",)


def test_labels_of_a_higher_layer_hide_those_of_a_lower(tmp_path: Path) -> None:
    path = written(tmp_path, "labels: labels.txt\n")
    config = load_config({"label": ["a dog"]}, {}, path)
    assert (config.label, config.labels) == (("a dog",), None)
    with pytest.raises(ConfigError, match="both labels and label"):
        load_config({"label": ["a dog"], "labels": "labels.txt"}, {})


@pytest.mark.parametrize(
    ("text", "where", "hint"),
    [
        ("source: demo\nlables: x\n", ":2: unknown key `lables`", "`labels`"),
        ("source: demo\n\nfps: fast\n", ":3: `fps`", ""),
        ("fps: -3\n", ":1: `fps`", ""),
        ("top: true\n", ":1: `top`", ""),
        ("source:\n  - demo\n  - 3\n", ":3: `source.1`", ""),
        ("source: [demo\n", "not YAML", ""),
        ("source: !!python/object/apply:os.system [x]\n", ":1: not YAML", ""),
    ],
)
def test_file_errors_name_file_line_and_key(tmp_path: Path, text: str, where: str, hint: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config({}, {}, path)
    assert caught.value.exit_code == CONFIGURATION
    assert caught.value.message.startswith(path)
    assert where in caught.value.message
    assert hint in caught.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_config({}, {}, str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("environment", "message", "hint"),
    [
        ({"EDGECLIP_LABLES": "x"}, "EDGECLIP_LABLES", "did you mean EDGECLIP_LABELS?"),
        ({"EDGECLIP_FPS": "fast"}, "EDGECLIP_FPS: expected a number", "EDGECLIP_FPS"),
        ({"EDGECLIP_TOP": "-1"}, "EDGECLIP_TOP", ""),
        ({"EDGECLIP_JSON": "perhaps"}, "EDGECLIP_JSON", ""),
    ],
)
def test_environment_errors_name_the_variable(environment: dict[str, str], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({}, environment)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_environment_texts_become_numbers_and_truths() -> None:
    config = load_config({}, {"EDGECLIP_FPS": "2.5", "EDGECLIP_JSON": "true", "EDGECLIP_MAX_FRAMES": ""})
    assert (config.fps, config.json, config.max_frames) == (2.5, True, None)


def test_every_variable_that_any_part_reads_or_gives_on_is_known() -> None:
    """TensorRT's plans with host code run where one is set; a command sink's program may be edgeclip itself."""
    package = Path(edgeclip.__file__).parent
    found = {name for path in package.rglob("*.py") for name in re.findall(r'"(EDGECLIP_[A-Z_]+)"', path.read_text())}
    found -= {"EDGECLIP_EXIT"}  # a field of the journal's
    assert {HOST_CODE, "EDGECLIP_EVENT_ID", "EDGECLIP_STATE"} < found
    settings = {f"{PREFIX}{name.upper()}" for name in FIELDS}
    assert found - settings == ELSEWHERE
    assert load_config({}, dict.fromkeys(ELSEWHERE, "1")) == Config()


def test_a_secret_in_the_environment_is_not_quoted() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({}, {"EDGECLIP_SOURCE_URL": "rtsp://me:secret@camera"})
    assert "secret" not in caught.value.message + caught.value.hint


def test_config_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Config().top = 3  # type: ignore[misc]  # that it is refused is the test
    assert msgspec.structs.asdict(Config())["top"] == 5


def test_a_secret_is_named_in_the_file_and_read_from_systemd_s_directory(tmp_path: Path) -> None:
    (tmp_path / "camera").write_text("p@ss/word\n")
    path = written(tmp_path, "source: 'rtsp://cam:${credential:camera}@yard/1'\nlabel: ['${credential:camera}', b]\n")
    config = load_config({}, {"CREDENTIALS_DIRECTORY": str(tmp_path)}, path)
    assert config.source == ("rtsp://cam:p%40ss%2Fword@yard/1",)
    assert config.label == ("p@ss/word", "b")


@pytest.mark.parametrize(
    ("value", "environment", "complaint"),
    [
        (
            "${credential:camera}",
            {},
            "source: the credential camera is asked for, and CREDENTIALS_DIRECTORY is not set",
        ),
        ("${credential:camera}", {"CREDENTIALS_DIRECTORY": "."}, "source: the credential camera cannot be read"),
        ("${credential:../x}", {"CREDENTIALS_DIRECTORY": "."}, "no such name"),
        ("${credential:empty}", {"CREDENTIALS_DIRECTORY": "."}, "source: the credential empty is empty"),
    ],
)
def test_a_secret_that_is_not_there_is_named(
    value: str, environment: dict[str, str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigError, match=complaint) as caught:
        load_config({"source": (value,)}, environment)
    assert caught.value.hint


def test_a_dollar_that_names_no_secret_stays(tmp_path: Path) -> None:
    assert load_config({"source": ("rtsp://u:p${x}@yard",)}, {}).source == ("rtsp://u:p${x}@yard",)
