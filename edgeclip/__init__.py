"""edgeclip: CLIP on the edge. Build INT8 image/text engines, prove them, run them for months."""

import os

__version__ = "0.1.0"

# OpenCV reads it once, when it is loaded: a picture file of 400 KB can otherwise ask for 3 GB. A user's setting stands.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "100000000")
