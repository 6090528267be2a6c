"""Labels out of a fixed bank."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgeclip.errors import DataError
from edgeclip.npz import npz_bytes
from edgeclip.runtime.labelbank import usual_labels
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


def test_a_bank_that_names_unknown_is_not_taken_for_the_labels(tmp_path: Path):
    """All of its names would be, where nobody said what to look for."""
    (tmp_path / "text.npz").write_bytes(npz_bytes(names=np.array(["dog", "Unknown"]), embeddings=np.eye(2, dtype="f4")))
    manifest = SimpleNamespace(text=SimpleNamespace(bank="text.npz"), dim=2, space="sha256:0")
    bundle = SimpleNamespace(manifest=manifest, origin="bundle", file=lambda name: tmp_path / name)
    with pytest.raises(DataError, match=r"bundle, its text.npz: 'Unknown' is no label"):
        usual_labels(bundle)


def test_prompts_that_cancel_each_other_out():
    opposite = FixedBank(("up", "down"), np.array([[1.0], [-1.0]], np.float32), "sha256:0", "x")
    with pytest.raises(DataError, match="cancel each other out"):
        opposite.pick([Label("both", ("up", "down"))])
