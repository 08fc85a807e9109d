"""The one call into torch.onnx: what it is given, and what it is told to leave whole."""
