"""ONNX Runtime in JavaScript, in Node and in a browser, asked over loopback."""

from anysize.validators.runtimes.javascript.packages import set_up

__all__ = ["set_up"]
