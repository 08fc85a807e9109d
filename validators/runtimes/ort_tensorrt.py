"""ONNX Runtime on an NVIDIA GPU through its TensorRT provider; TF32 only where it is asked for.

TensorRT builds an engine for a range of sizes at the first run, and again where a size leaves it.
"""

from __future__ import annotations

from anysize.validators.runtimes.ort_gpu import OrtGpu
from anysize.validators.runtimes.ort_session import Provider

__all__ = ["OrtTensorrt", "OrtTensorrtTf32"]


class OrtTensorrt(OrtGpu):
    """ONNX Runtime with the TensorRT execution provider, in float32."""

    name = "ort-tensorrt"
    profile = "tensorrt"

    def provider(self) -> Provider:
        """Return the TensorRT provider, in float32; TF32 is up to a variable, not to an option."""
        return Provider("TensorrtExecutionProvider", {"trt_fp16_enable": "0"}, tf32=self.tf32)


class OrtTensorrtTf32(OrtTensorrt):
    """The same with TF32 allowed, judged by the error profile `tf32`."""

    profile = "tf32"
    tf32 = True
