import contextlib
import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeclip.errors import DataError, UsageError
from edgeclip.runtime.editedfile import EditedFile
from edgeclip.runtime.labels import MAX_LABELS, LabelFile, labels_from_options, parse_labels
from edgeclip.types import Label


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def parse(tmp_path, text):
    return parse_labels(write(tmp_path / "labels.txt", text))


def test_names_comments_and_own_prompts(tmp_path):
    text = """
        # what the yard can show
        dog
        C# book   # 'C#' is no comment, this is
        cardboard box / carton
        aubergines (eggplants)
        either|or
        at 10:30
        delivery: a person carrying a parcel | a van: white | parked
    """
    assert parse(tmp_path, text) == (
        Label("dog"),
        Label("C# book"),
        Label("cardboard box / carton"),
        Label("aubergines (eggplants)"),
        Label("either|or"),
        Label("at 10:30"),
        Label("delivery", ("a person carrying a parcel", "a van: white", "parked")),
    )


def test_bom_crlf_tabs_and_a_missing_last_newline_do_not_matter(tmp_path):
    assert parse(tmp_path, b"\xef\xbb\xbfcat\r\ndog:\ta  dog\r\nv\xc3\xb6gel") == (
        Label("cat"),
        Label("dog", ("a dog",)),
        Label("vögel"),
    )


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, "no labels"),
        ("# only\n\n  # comments\n", None, "no labels"),
        ("cat\nDog\ndoG", 3, "already the label of line 2"),
        ("Stra\u00dfe\nSTRASSE", 2, "already"),
        ("caf\u00e9\ncafe\u0301", 2, "already"),
        ("cat:", 1, "empty prompt"),
        ("cat: a | | b", 1, "empty prompt"),
        ("cat: a |", 1, "empty prompt"),
        ("cat: | a", 1, "empty prompt"),
        ("cat: a | a", 1, "same prompt twice"),
        ("cat\nunknown", 2, "'unknown' is no label"),
        ("cat\nUNKNOWN: a blur | fog", 2, "'UNKNOWN' is no label"),
        (": a cat", 1, "no label name"),
        ("ok\n" + "x" * 513, 2, "513 characters"),
        ("ok\ncat\x07", 2, "U+0007 at column 4"),
        ("ok\rcat", 1, "U+000D"),
        ("ok\u2028cat", 1, "U+2028"),
        ("ok\ncat\u202egod", 2, "U+202E"),
        (b"ok\n\nca\xfft", 3, "byte 3 of the line is not UTF-8"),
        ("cat".encode("utf-16"), 1, "this is UTF-16"),
    ],
)
def test_bad_content_is_refused_with_file_line_and_fix(tmp_path, text, line, words):
    with pytest.raises(DataError) as caught:
        parse(tmp_path, text)
    where = str(tmp_path / "labels.txt") + (f":{line}:" if line else "")
    assert caught.value.message.startswith(where)
    assert words in caught.value.message
    assert caught.value.hint
    assert caught.value.message.isprintable()


def test_a_line_of_512_characters_and_10000_labels_are_allowed(tmp_path):
    assert parse(tmp_path, "x" * 512) == (Label("x" * 512),)
    lines = [f"label {i}" for i in range(MAX_LABELS)]
    assert len(parse(tmp_path, "\n".join(lines))) == MAX_LABELS
    with pytest.raises(DataError, match=f":{MAX_LABELS + 1}: more than"):
        parse(tmp_path, "\n".join([*lines, "one more"]))


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        parse_labels(tmp_path / "absent.txt")
    with pytest.raises(DataError, match="cannot read"):
        parse_labels(tmp_path)


@given(st.binary(max_size=200))
def test_any_bytes_are_labels_or_a_data_error(tmp_path_factory, raw):
    path = write(tmp_path_factory.getbasetemp() / "any.txt", raw)
    with contextlib.suppress(DataError):
        labels = parse_labels(path)
        assert labels
        assert all(label.name and all(label.prompts) for label in labels)


def test_options_are_lines_without_comments():
    assert labels_from_options(["a dog", "cat: a cat | a kitten", "room #3"]) == (
        Label("a dog"),
        Label("cat", ("a cat", "a kitten")),
        Label("room #3"),
    )
    assert labels_from_options(["something else: unknown"]) == (Label("something else", ("unknown",)),)
    for bad in ([], [" "], ["a", "A"], ["a\nb"], ["a: "], ["Unknown"]):
        with pytest.raises(UsageError):
            labels_from_options(bad)


class Looks:
    """A label file looked at once a second of made-up time."""

    def __init__(self, path):
        self.file = LabelFile(path)
        self.now_s = 100.0

    def look(self):
        self.now_s += 1.0
        return self.file.poll(self.now_s)


def replace_over(path, text):
    """What editors do: write beside, rename over."""
    write(path.with_suffix(".new"), text)
    os.replace(path.with_suffix(".new"), path)


@pytest.mark.parametrize("save", [write, replace_over])
def test_an_edit_is_taken_once_it_has_settled(tmp_path, save):
    path = write(tmp_path / "labels.txt", "cat")
    looks = Looks(path)
    assert looks.file.labels == (Label("cat"),)
    assert looks.look() is None
    save(path, "cat\ndog")
    assert looks.look() is None
    assert looks.look() == (Label("cat"), Label("dog"))
    assert looks.look() is None


def test_a_file_that_is_still_growing_is_left_alone(tmp_path):
    path = write(tmp_path / "labels.txt", "cat")
    looks = Looks(path)
    for text in (b"do\xc3", b"do\xc3\xb6", b"do\xc3\xb6r\nd", b"do\xc3\xb6r\ndog"):
        write(path, text)
        assert looks.look() is None
    assert looks.look() == (Label("doör"), Label("dog"))


def test_a_bad_edit_is_reported_once_and_the_old_labels_stay(tmp_path):
    path = write(tmp_path / "labels.txt", "cat")
    looks = Looks(path)
    write(path, "cat\ncat")
    assert looks.look() is None
    with pytest.raises(DataError, match=r"labels.txt:2:"):
        looks.look()
    assert looks.look() is None
    assert looks.file.labels == (Label("cat"),)
    write(path, "cat")
    assert [looks.look(), looks.look()] == [None, None]  # what was in force all along
    write(path, "bird")
    assert [looks.look(), looks.look()] == [None, (Label("bird"),)]


def test_removal_is_reported_once_and_a_new_file_is_taken(tmp_path):
    path = write(tmp_path / "labels.txt", "cat")
    looks = Looks(path)
    path.unlink()
    assert looks.look() is None
    with pytest.raises(DataError, match="cannot read"):
        looks.look()
    assert looks.look() is None
    write(path, "dog")
    assert [looks.look(), looks.look()] == [None, (Label("dog"),)]


def test_a_file_that_cannot_be_read_for_a_while_is_tried_until_it_can(tmp_path):
    """A share that was away (ESTALE, EIO) leaves no trace in the file's times."""
    path = write(tmp_path / "labels.txt", "cat")
    failing = []

    def read():
        if failing:
            raise DataError(f"cannot read {path}") from OSError(failing.pop(), "gone for a moment")
        return parse_labels(path)

    looks = Looks(path)
    looks.file = EditedFile(read, path)
    write(path, "dog")
    failing += [errno.EIO, errno.ESTALE, errno.EIO]
    assert looks.look() is None
    with pytest.raises(DataError):
        looks.look()
    assert not looks.file.well
    assert [looks.look(), looks.look(), looks.look()] == [None, None, (Label("dog"),)]
    assert looks.file.well


def test_a_folder_that_was_away_is_back_without_an_edit(tmp_path):
    (tmp_path / "share").mkdir()
    looks = Looks(write(tmp_path / "share" / "labels.txt", "cat"))
    (tmp_path / "share").rename(tmp_path / "away")
    assert looks.look() is None
    with pytest.raises(DataError, match="cannot read"):
        looks.look()
    (tmp_path / "away").rename(tmp_path / "share")
    assert [looks.look(), looks.look()] == [None, None]
    assert looks.file.well
    write(tmp_path / "share" / "labels.txt", "dog")
    assert [looks.look(), looks.look()] == [None, (Label("dog"),)]


def test_it_looks_at_most_four_times_a_second(tmp_path, monkeypatch):
    looks = Looks(write(tmp_path / "labels.txt", "cat"))
    calls = []
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda *args, **more: calls.append(args) or real(*args, **more))
    for step in range(1000):
        looks.file.poll(200.0 + step / 100)
    assert 36 <= len(calls) <= 40


def test_a_touched_file_is_no_edit(tmp_path):
    path = write(tmp_path / "labels.txt", "cat")
    looks = Looks(path)
    os.utime(path, ns=(1, 1))
    assert [looks.look(), looks.look(), looks.look()] == [None, None, None]


def test_a_bad_file_is_refused_at_the_start(tmp_path):
    with pytest.raises(DataError):
        LabelFile(write(tmp_path / "labels.txt", "cat\ncat"))
