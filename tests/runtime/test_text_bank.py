"""Labels out of a fixed bank."""

from pathlib import Path

import numpy as np
import pytest

from edgeclip.errors import DataError
from edgeclip.runtime.text_bank import FixedBank
from edgeclip.types import Label

NAMES = ("traffic light", "Dog", "cat")


def bank() -> FixedBank:
    return FixedBank(NAMES, np.eye(3, dtype=np.float32), "sha256:0", str(Path("somewhere")))


def test_a_label_is_its_row_whatever_its_case():
    picked = bank().pick([Label("DOG"), Label("traffic light")])
    assert picked.names == ("DOG", "traffic light")
    assert picked.embeddings.dtype == np.float32
    assert picked.embeddings.tolist() == [[0, 1, 0], [1, 0, 0]]


def test_prompts_are_names_and_make_a_mean():
    picked = bank().pick([Label("pet", ("dog", "cat"))])
    assert np.allclose(picked.embeddings, [[0, 0.5**0.5, 0.5**0.5]])


def test_labels_outside_are_refused_by_name_with_the_nearest():
    with pytest.raises(DataError, match="3 names, and not 'traffic lights', 'zebra'") as caught:
        bank().pick([Label("traffic lights"), Label("dog"), Label("zebra")])
    assert "traffic light" in caught.value.hint
    assert caught.value.exit_code == 65
    with pytest.raises(DataError, match="'qqqq'") as caught:
        bank().pick([Label("qqqq")])
    assert "inspect" in caught.value.hint


def test_prompts_that_cancel_each_other_out():
    opposite = FixedBank(("up", "down"), np.array([[1.0], [-1.0]], np.float32), "sha256:0", "x")
    with pytest.raises(DataError, match="cancel each other out"):
        opposite.pick([Label("both", ("up", "down"))])
