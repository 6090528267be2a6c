"""Thresholds from background footage: `edgeclip tune`."""
