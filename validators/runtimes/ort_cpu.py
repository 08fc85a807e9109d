"""ONNX Runtime on the CPU provider, and on nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from anysize.validators.runtimes.importable import importable
from anysize.validators.runtimes.ort_session import OrtSession, import_onnxruntime
from anysize.validators.runtimes.protocol import Availability

__all__ = ["OrtCpu", "OrtSession"]


class OrtCpu:
    """ONNX Runtime with the CPU execution provider."""

    name: Final = "ort-cpu"
    profile: Final = "strict"
    device: Final = "cpu"

    def availability(self) -> Availability:
        """Tell whether onnxruntime can be imported."""
        return importable("onnxruntime", by=lambda _: import_onnxruntime())

    def version(self) -> str:
        """Return the version of onnxruntime."""
        return str(import_onnxruntime().__version__)

    def load(self, model_path: Path, *, threads: int) -> OrtSession:
        """Load a file; onnxruntime's own exception tells what it does not support."""
        return OrtSession(str(model_path), threads=threads)
