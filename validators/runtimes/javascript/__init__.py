"""ONNX Runtime in JavaScript, in Node and in a browser, asked over loopback."""
