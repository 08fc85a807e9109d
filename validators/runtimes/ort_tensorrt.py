"""ONNX Runtime on an NVIDIA GPU through its TensorRT provider; TF32 only where it is asked for.

TensorRT builds an engine for a range of sizes at the first run, and again where a size leaves it.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

from anysize.validators.runtimes.ort_gpu import import_with_cuda, probe
from anysize.validators.runtimes.ort_session import OrtSession, Provider
from anysize.validators.runtimes.protocol import Availability

__all__ = ["OrtTensorrt", "OrtTensorrtTf32"]


class OrtTensorrt:
    """ONNX Runtime with the TensorRT execution provider, in float32."""

    name: Final = "ort-tensorrt"
    device: Final = "cuda"
    profile: ClassVar[str] = "tensorrt"
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
        return Provider("TensorrtExecutionProvider", {"trt_fp16_enable": "0"}, tf32=self.tf32)


class OrtTensorrtTf32(OrtTensorrt):
    """The same with TF32 allowed, judged by the error profile `tf32`."""

    profile = "tf32"
    tf32 = True
