"""ONNX Runtime on an NVIDIA GPU through its CUDA provider; TF32 only where it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

from anysize.validators.runtimes.ort_gpu import import_with_cuda, probe
from anysize.validators.runtimes.ort_session import OrtSession, Provider
from anysize.validators.runtimes.protocol import Availability

__all__ = ["OrtCuda", "OrtCudaTf32"]


class OrtCuda:
    """ONNX Runtime with the CUDA execution provider, in IEEE float32."""

    name: Final = "ort-cuda"
    device: Final = "cuda"
    profile: ClassVar[str] = "strict"
    tf32: ClassVar[bool] = False

    def availability(self) -> Availability:
        """Tell whether the provider really runs a node."""
        return probe(self._provider())

    def version(self) -> str:
        """Return the version of onnxruntime."""
        return str(import_with_cuda(tf32=self.tf32).__version__)

    def load(self, model_path: Path, *, threads: int) -> OrtSession:
        """Load a file; onnxruntime's own exception tells what it does not support."""
        import_with_cuda(tf32=self.tf32)
        return OrtSession(str(model_path), threads=threads, provider=self._provider())

    def _provider(self) -> Provider:
        # ONNX Runtime allows TF32 by default, which leaves ten bits of each factor of a product.
        # Convolution algorithms are chosen by heuristics: a search would try them all at each size.
        options = {"use_tf32": str(int(self.tf32)), "cudnn_conv_algo_search": "HEURISTIC"}
        return Provider("CUDAExecutionProvider", options, tf32=self.tf32)


class OrtCudaTf32(OrtCuda):
    """The same with TF32 allowed, judged by the error profile `tf32`."""

    profile = "tf32"
    tf32 = True
