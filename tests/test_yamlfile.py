from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgeclip.errors import CONFIGURATION, ConfigError
from edgeclip.yamlfile import load_yaml


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    size: int = 0
    names: list[str] = []


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    fps: float = 0.0
    inner: Inner = msgspec.field(default_factory=Inner)
    many: list[Inner] = []


def put(folder: Path, text: str) -> Path:
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_yaml(path, Outer)
    assert caught.value.exit_code == CONFIGURATION
    assert caught.value.hint
    return caught.value


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    text = "fps: 2.5\ninner: {size: 3}\nmany:\n- &first {names: [a]}\n- *first\n- {<<: *first, size: 1}\n"
    assert load_yaml(put(tmp_path, text), Outer) == Outer(
        2.5, Inner(3), [Inner(0, ["a"]), Inner(0, ["a"]), Inner(1, ["a"])]
    )
    assert load_yaml(put(tmp_path, "# nothing\n"), Outer) == Outer()


@pytest.mark.parametrize(
    ("text", "line", "key", "first"),
    [
        ("fps: 1\ninner: {}\nfps: 2\n", 3, "fps", 1),
        ("inner:\n  size: 1\n  size: 1\n", 3, "inner.size", 2),
        ("many:\n- size: 1\n- size: 2\n  names: []\n  size: 3\n", 5, "many.1.size", 3),
        ("{fps: 1, 'fps': 2}", 1, "fps", 1),
    ],
)
def test_a_key_given_twice_is_refused_with_both_lines(
    text: str, line: int, key: str, first: int, tmp_path: Path
) -> None:
    path = put(tmp_path, text)
    assert refused(path).message == f"{path}:{line}: `{key}` is given a second time, after line {first}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fps: 1\nlables: x\n", "x.yaml:2: unknown key `lables`"),
        ("many:\n- size: 1\n- size: big\n", "x.yaml:3: `many.1.size`: expected a whole number, got text"),
        ("fps: [1\n", "x.yaml:2: not YAML"),
        ("fps:\n\t1\n", "x.yaml:2: not YAML: found character '\\t'"),
        ("fps: 2026-13-45\n", "x.yaml: not YAML: month must be"),
        ('fps: !!float ""\n', "x.yaml: not YAML"),
        ("fps: !!bool maybe\n", "x.yaml: not YAML"),
        ("fps: !!timestamp soon\n", "x.yaml: not YAML"),
        ("many: &x [*x]\n", "x.yaml:1"),
        ("[" * 3000, "x.yaml"),
        ("- 1\n", "x.yaml:1: `the document`"),
        ("fps: 1\n---\nfps: 2\n", "x.yaml:"),
        ("? [1]\n: 2\n", "x.yaml:1"),
        ("fps: !!python/name:os.system\n", "x.yaml:1"),
    ],
)
def test_other_mistakes_name_the_line_and_never_crash(text: str, words: str, tmp_path: Path) -> None:
    assert words in refused(put(tmp_path, text)).message


def test_what_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot read" in refused(tmp_path / "x.yaml").message
