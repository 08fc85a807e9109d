"""One ONNX Runtime session, on one execution provider, and what its own profile says of it."""

from __future__ import annotations

import importlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anysize.validators.runtimes.protocol import Provenance, ProviderUse

__all__ = ["CPU", "Execution", "OrtSession", "Provider", "executed_nodes", "import_onnxruntime"]

_SILENT: Final = 4  # fatal messages only: an error at run is raised, and judged, anyway
# Sizes and indices are computed in host memory on purpose, whatever the provider; whole numbers
# are exact everywhere. A node with another type among its outputs computes values.
_SHAPE_TYPES: Final = frozenset({"int64", "int32", "bool"})


def import_onnxruntime() -> Any:
    """Import onnxruntime so that it does not call home.

    From 1.29 on its wheels for Linux and macOS report the process and its sessions to Microsoft, by
    a thread that starts at import and heeds `disable_telemetry_events` no more. Only this variable
    stops it, where it is set before (https://github.com/microsoft/onnxruntime/pull/27379).
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider and what it is asked for.

    Attributes:
        name: ONNX Runtime's name for it.
        options: Options of the provider, in ONNX Runtime's words.
        tf32: Whether its products may be rounded to TF32; None where it has none.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    tf32: bool | None = None


CPU: Final = Provider("CPUExecutionProvider")


@dataclass(frozen=True, slots=True)
class Execution:
    """One node of the graph that ran, as the profile has it.

    Attributes:
        node: Name of the node.
        operator: Operator of the node.
        provider: What executed it.
        is_shape: It computes sizes or indices, and no values.
    """

    node: str
    operator: str
    provider: str
    is_shape: bool


class OrtSession:
    """One InferenceSession on one provider.

    Args:
        model: Path of a file, or a serialised model.
        threads: Threads that one operator may use.
        provider: What shall execute the nodes.
        external_folder: Where a serialised model finds its external data.
        profiled: Record which provider executes each node, during the first run that succeeds.
            Nodes are placed when a model is loaded, so one run tells for all of them.
        is_literal: Compute DequantizeLinear and QuantizeLinear as the graph has them. Otherwise
            they are fused with the products behind them, which then round their activations to
            8 bits, too (MatMulNBits at accuracy level 4: 4e-4 off on a small head).
        is_laid_out: Let it lay out the weights of convolutions in blocks for the processor.
        is_packed: Let it pack other weights, which pays after many runs.
    """

    def __init__(
        self,
        model: str | bytes,
        *,
        threads: int,
        provider: Provider = CPU,
        external_folder: Path | None = None,
        profiled: bool = True,
        is_literal: bool = False,
        is_laid_out: bool = True,
        is_packed: bool = True,
    ) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _SILENT
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        if is_literal:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        if not is_packed:
            options.add_session_config_entry("session.disable_prepacking", "1")
        if not is_laid_out:
            level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.graph_optimization_level = level
        if external_folder is not None:
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(external_folder)
            )
        self._profile_folder: tempfile.TemporaryDirectory[str] | None = None
        if profiled:
            self._profile_folder = tempfile.TemporaryDirectory(prefix="anysize-profile-")
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(self._profile_folder.name) / "ort")
        self._threads = threads
        self._provider = provider
        self._executed: tuple[Execution, ...] = ()
        try:
            self._session: Any = onnxruntime.InferenceSession(
                model, sess_options=options, providers=[(provider.name, dict(provider.options))]
            )
        except BaseException:
            self._drop_profile()
            raise
        started = self._session.get_providers()
        if provider.name not in started:  # onnxruntime goes on with the CPU and tells nobody
            self.close()
            raise RuntimeError(f"{provider.name} did not start; got {', '.join(started)} instead")
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Compute all outputs, in the graph's order."""
        answers = self._session.run(self._names, dict(inputs))
        if self._profile_folder is not None:
            self._executed = executed_nodes(Path(self._session.end_profiling()))
            self._drop_profile()
        return dict(zip(self._names, answers, strict=True))

    def provenance(self) -> Provenance:
        """Tell which providers executed nodes, from the session's own profile.

        A node that computes only sizes or indices is counted where it ran, and is no fallback.
        """
        counts = Counter(one.provider for one in self._executed)
        return Provenance(
            providers=tuple(sorted(ProviderUse(name, count) for name, count in counts.items())),
            fallback_nodes=tuple(
                f"{one.node} ({one.operator} on {one.provider})"
                for one in self._executed
                if one.provider != self._provider.name and not one.is_shape
            ),
            threads=self._threads,
            tf32=self._provider.tf32,
        )

    def close(self) -> None:
        """Release the session and its profile."""
        if self._profile_folder is not None:
            self._session.end_profiling()
            self._drop_profile()
        self._session = None

    def _drop_profile(self) -> None:
        if self._profile_folder is not None:
            self._profile_folder.cleanup()
            self._profile_folder = None


def executed_nodes(profile: Path) -> tuple[Execution, ...]:
    """Read each executed node once, in order of execution."""
    events = json.loads(profile.read_text(encoding="utf-8"))
    found: dict[str, Execution] = {}
    for event in events:
        details = event.get("args", {})
        if event.get("cat") == "Node" and "provider" in details:
            name = str(event["name"]).removesuffix("_kernel_time")
            types = {kind for output in details.get("output_type_shape", ()) for kind in output}
            found.setdefault(
                name,
                Execution(
                    node=name,
                    operator=str(details["op_name"]),
                    provider=str(details["provider"]),
                    is_shape=bool(types) and types <= _SHAPE_TYPES,
                ),
            )
    return tuple(found.values())
