"""What the exporting process refuses before it converts anything."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeclip.build.exporter import require_size
from edgeclip.errors import DataError


def test_a_tower_too_large_for_one_file_is_refused() -> None:
    with torch.device("meta"):
        large, fits = nn.Linear(16384, 65536), nn.Linear(8192, 32768)
    require_size("image", fits)
    with pytest.raises(DataError, match=r"the image tower has 4\.3 GB of float weights") as caught:
        require_size("image", large)
    assert caught.value.exit_code == 65
