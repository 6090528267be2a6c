from __future__ import annotations

import numpy as np
import pytest

from edgeclip.tune.positives import recall, wilson


def test_wilson_interval_as_published() -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


def test_recall_counts_what_reaches_the_threshold() -> None:
    found = recall(np.array([1.0, 3.0, 3.5, -2.0]), 3.0)
    assert (found.n, found.found, found.share) == (4, 2, 0.5)
