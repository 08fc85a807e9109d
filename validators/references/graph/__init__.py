"""References that are ONNX files, run as they stand and in float64."""
