"""What the NVIDIA providers of ONNX Runtime share: whether one really starts here, and why not.

`get_available_providers()` lists what was compiled in, and a session that asks for a provider whose
libraries are missing runs on the CPU. So a graph of one node is run, with falling back forbidden.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Final

import numpy as np

from anysize.validators.runtimes.ort_session import OrtSession, Provider, import_onnxruntime
from anysize.validators.runtimes.protocol import Availability

__all__ = ["OrtGpu"]

_SILENT: Final = 4
_NO_FALLBACK: Final = "session.disable_cpu_ep_fallback"
_LIBRARIES: Final = {
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "tensorrt",
}


class OrtGpu(ABC):
    """ONNX Runtime with a provider for NVIDIA GPUs; `provider` says which, and its options."""

    name: ClassVar[str]
    profile: ClassVar[str]
    device: Final = "cuda"
    tf32: ClassVar[bool] = False

    @abstractmethod
    def provider(self) -> Provider:
        """Return the provider and the options that it is asked for with."""

    def availability(self) -> Availability:
        """Tell whether the provider really runs a node."""
        return _probe(self.provider())

    def version(self) -> str:
        """Return the version of onnxruntime."""
        return str(_import_with_cuda(tf32=self.tf32).__version__)

    def load(self, model_path: Path, *, threads: int) -> OrtSession:
        """Load a file; onnxruntime's own exception tells what it does not support."""
        _import_with_cuda(tf32=self.tf32)
        return OrtSession(str(model_path), threads=threads, provider=self.provider())


def _import_with_cuda(*, tf32: bool) -> Any:
    """Import onnxruntime and load the CUDA libraries that were installed as Python packages.

    NVIDIA's libraries read the variable once, when they start. The TensorRT provider has no option
    for TF32, and TensorRT allows it by default.
    """
    if not tf32:
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    onnxruntime = import_onnxruntime()
    if hasattr(onnxruntime, "preload_dlls"):  # prints what it does not find
        onnxruntime.preload_dlls()
    with contextlib.suppress(Exception):
        importlib.import_module("tensorrt")  # loads its libraries
    return onnxruntime


def _probe(provider: Provider) -> Availability:
    """Run one node on the provider; the reason is in the words of what refused."""
    try:
        onnxruntime = _import_with_cuda(tf32=bool(provider.tf32))
    except Exception as exc:  # a broken wheel raises more than ImportError
        return Availability(is_available=False, reason=f"onnxruntime cannot be imported: {exc}")
    if provider.name not in onnxruntime.get_available_providers():
        reason = f"this build of onnxruntime has no {provider.name}"
        return Availability(is_available=False, reason=reason)
    missing = _missing_library(onnxruntime, provider.name)
    if missing:
        reason = f"{provider.name} does not load: {missing}"
        return Availability(is_available=False, reason=reason)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.add_session_config_entry(_NO_FALLBACK, "1")
    try:
        session = onnxruntime.InferenceSession(
            _one_node(), options, providers=[(provider.name, dict(provider.options))]
        )
        session.run(None, {"x": np.zeros(1, np.float32)})
    except Exception as exc:  # each provider has exceptions of its own
        reason = f"{provider.name} does not start: {exc}"
        return Availability(is_available=False, reason=reason)
    if provider.name not in session.get_providers():
        reason = f"{provider.name} does not start; onnxruntime would run on the CPU instead"
        return Availability(is_available=False, reason=reason)
    return Availability(is_available=True)


def _missing_library(onnxruntime: ModuleType, provider: str) -> str:
    """Load the provider's library as onnxruntime will; return the loader's complaint, or ""."""
    assert onnxruntime.__file__ is not None
    folder = Path(onnxruntime.__file__).parent / "capi"
    pattern = (
        "onnxruntime_providers_{}.dll"
        if sys.platform == "win32"
        else ("libonnxruntime_providers_{}.so")
    )
    library = folder / pattern.format(_LIBRARIES[provider])
    if not library.exists():
        return ""  # built in; the session will tell
    try:
        ctypes.CDLL(str(folder / pattern.format("shared")), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as exc:
        return str(exc)
    return ""


def _one_node() -> bytes:
    """Serialise Relu of one float."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())
