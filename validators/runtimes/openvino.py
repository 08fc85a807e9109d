"""OpenVINO on the CPU in float32, without its telemetry."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anysize.validators.runtimes.importable import importable
from anysize.validators.runtimes.protocol import Availability, Provenance, ProviderUse

__all__ = ["OpenVino", "OpenVinoSession", "import_openvino"]

_DEVICE: Final = "CPU"
_TELEMETRY: Final = "openvino_telemetry"
_PASSED_THROUGH: Final = re.compile(r"Exception from \S+:\d+:\s*")
_SUMMARY: Final = "Summary:"
_NOT_COMPUTED: Final = frozenset({"Const", "Input", "Output"})

# On one thread, 2026.4 loses the failure of a node, and answers with what its buffers held.
_FEWEST_THREADS: Final = 2


def import_openvino() -> Any:
    """Import openvino so that it does not call home.

    `import openvino` (2026.4) reports itself through the package openvino_telemetry, which it
    depends on, and writes to the home folder. While openvino is imported here, that package
    counts as not installed, and openvino falls back on a stub of its own. `Core.read_model` and
    `compile_model` report nothing, other than `openvino.convert_model`.
    """
    if "openvino" in sys.modules:
        return sys.modules["openvino"]  # whoever imported it first has decided
    before = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[_TELEMETRY]
        if before is not None:
            sys.modules[_TELEMETRY] = before


class OpenVino:
    """OpenVINO with its CPU plugin."""

    name: Final = "openvino"
    profile: Final = "strict"
    device: Final = "cpu"

    def availability(self) -> Availability:
        """Tell whether openvino can be imported."""
        return importable("openvino", by=lambda _: import_openvino())

    def version(self) -> str:
        """Return the version of openvino, without its build."""
        return str(import_openvino().get_version()).split("-", maxsplit=1)[0]

    def load(self, model_path: Path, *, threads: int) -> OpenVinoSession:
        """Load a file; openvino's own exception tells what it does not support."""
        return OpenVinoSession(model_path, threads=threads)


class OpenVinoSession:
    """One compiled model.

    Args:
        model_path: The file; its external data is found beside it.
        threads: Threads that one inference may use; two at least.
    """

    def __init__(self, model_path: Path, *, threads: int) -> None:
        core = import_openvino().Core()
        options = {
            # Without it the plugin picks bfloat16 on processors that have it.
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": max(threads, _FEWEST_THREADS),
            "NUM_STREAMS": 1,
        }
        try:
            self._compiled: Any = core.compile_model(core.read_model(model_path), _DEVICE, options)
        except RuntimeError as exc:
            raise _readable(exc) from exc
        self._names = [_name(output) for output in self._compiled.outputs]

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Compute all outputs, in the graph's order."""
        try:
            answers = self._compiled(dict(inputs))
        except RuntimeError as exc:
            raise _readable(exc) from exc
        # The arrays are views of the request's buffers, which the next run overwrites.
        return {name: np.array(answers[place]) for place, name in enumerate(self._names)}

    def provenance(self) -> Provenance:
        """Tell which devices execute the graph, and how many nodes the plugin made of it."""
        devices = [str(device) for device in self._compiled.get_property("EXECUTION_DEVICES")]
        layers = [
            str(node.get_rt_info()["layerType"].astype(str))
            for node in self._compiled.get_runtime_model().get_ops()
        ]
        nodes = sum(layer not in _NOT_COMPUTED for layer in layers)
        return Provenance(
            providers=(ProviderUse(f"OpenVINO {'+'.join(devices)}", nodes),),
            fallback_nodes=tuple(f"graph (on {d})" for d in devices if d != _DEVICE),
            threads=int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
        )

    def close(self) -> None:
        """Release the model."""
        self._compiled = None


def _readable(exc: RuntimeError) -> RuntimeError:
    """Keep the words and drop the lines of its own sources that they passed through.

    A graph with an unknown operator yields pages of what follows from it, and at the end a summary.
    """
    words = _PASSED_THROUGH.sub("", str(exc))
    return RuntimeError(words.rpartition(_SUMMARY)[2])


def _name(output: Any) -> str:
    """Return the ONNX name; an output that several tensors lead to has several."""
    return str(output.get_any_name())
