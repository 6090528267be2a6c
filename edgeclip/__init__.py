"""edgeclip: CLIP on the edge. Build INT8 image/text engines, prove them, run them for months."""

__version__ = "0.1.0"
