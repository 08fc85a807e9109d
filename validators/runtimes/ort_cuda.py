"""ONNX Runtime on an NVIDIA GPU through its CUDA provider; TF32 only where it is asked for."""

from __future__ import annotations

from anysize.validators.runtimes.ort_gpu import OrtGpu
from anysize.validators.runtimes.ort_session import Provider

__all__ = ["OrtCuda", "OrtCudaTf32"]


class OrtCuda(OrtGpu):
    """ONNX Runtime with the CUDA execution provider, in IEEE float32."""

    name = "ort-cuda"
    profile = "strict"

    def provider(self) -> Provider:
        """Return the CUDA provider, with TF32 off unless the class says otherwise."""
        # ONNX Runtime allows TF32 by default, which leaves ten bits of each factor of a product.
        # Convolution algorithms are chosen by heuristics: a search would try them all at each size.
        options = {"use_tf32": str(int(self.tf32)), "cudnn_conv_algo_search": "HEURISTIC"}
        return Provider("CUDAExecutionProvider", options, tf32=self.tf32)


class OrtCudaTf32(OrtCuda):
    """The same with TF32 allowed, judged by the error profile `tf32`."""

    profile = "tf32"
    tf32 = True
