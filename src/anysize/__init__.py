"""Ship CNN classifiers as ONNX graphs that take any image size, and prove that they are right."""

__version__ = "0.1.0"
