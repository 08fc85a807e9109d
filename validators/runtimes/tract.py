"""tract, Sonos' inference engine in Rust, on the CPU.

Where a size makes a window larger than its input, tract 0.23 may end the process (a Rust panic, or
a segmentation fault), which is why it runs in a worker.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anysize.validators.runtimes.importable import importable
from anysize.validators.runtimes.protocol import Availability, Provenance, ProviderUse

__all__ = ["Tract", "TractSession"]

_NOT_COMPUTED: Final = frozenset({"Const", "Source"})
# RUST_BACKTRACE=1 adds pages behind these words.
_BACKTRACE: Final = "Stack backtrace:"


class Tract:
    """tract's optimised plan, on its CPU runtime."""

    name: Final = "tract"
    profile: Final = "strict"
    device: Final = "cpu"

    def availability(self) -> Availability:
        """Tell whether tract can be imported."""
        return importable("tract")

    def version(self) -> str:
        """Return the version of tract's native library."""
        return str(importlib.import_module("tract").version())

    def load(self, model_path: Path, *, threads: int) -> TractSession:  # noqa: ARG002
        """Load a file with symbolic axes; its Python binding computes on one thread."""
        return TractSession(model_path)


class TractSession:
    """One plan, which serves every size.

    Args:
        model_path: The file; its external data is found beside it.
    """

    def __init__(self, model_path: Path) -> None:
        import onnx
        import tract

        # tract calls outputs after nodes; the file knows what they are called, in the same order.
        described = onnx.load(model_path, load_external_data=False)
        self._outputs = [output.name for output in described.graph.output]
        del described
        try:
            model = tract.onnx().load(model_path)
            self._inputs = [model.input_name(place) for place in range(model.input_count())]
            runtime = tract.runtime_for_name("default")
            self._provider = f"tract {runtime.name()}"
            self._plan: Any = runtime.prepare(model.into_model())
        except tract.TractError as exc:
            raise _without_backtrace(exc) from exc

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Compute all outputs, in the graph's order."""
        import tract

        arrays = [np.ascontiguousarray(inputs[name]) for name in self._inputs]
        try:
            answers = self._plan.run(arrays)
        except tract.TractError as exc:
            raise _without_backtrace(exc) from exc
        return {
            name: answer.to_numpy() for name, answer in zip(self._outputs, answers, strict=True)
        }

    def provenance(self) -> Provenance:
        """Tell what the plan is made of."""
        nodes = json.loads(self._plan.profile_json(None))["nodes"]
        computed = sum(node["op_name"] not in _NOT_COMPUTED for node in nodes)
        return Provenance(providers=(ProviderUse(self._provider, computed),), threads=1)

    def close(self) -> None:
        """Release the plan."""
        self._plan = None


def _without_backtrace(exc: Exception) -> RuntimeError:
    return RuntimeError(str(exc).split(_BACKTRACE, maxsplit=1)[0])
