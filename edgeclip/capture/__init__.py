"""CAPTURE: a running camera becomes a calibration set: varied, sharp, without duplicates. No torch, no matplotlib."""
