"""Before any test imports a library that imports torchvision; and no test may ask a hub."""

import os

from edgeclip.build.checkpoints.torchvision_ops import declare_missing

os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
declare_missing()
