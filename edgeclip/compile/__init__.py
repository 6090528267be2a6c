"""COMPILE: the Q/DQ ONNX in a bundle becomes a TensorRT plan, on the device that runs it or ahead of time. No torch."""
