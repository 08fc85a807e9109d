"""ONNX Runtime on the CPU provider, and on nothing else."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anysize.validators.runtimes.protocol import Availability, Provenance, ProviderUse

__all__ = ["OrtCpu", "OrtSession"]

_PROVIDER: Final = "CPUExecutionProvider"
_SILENT: Final = 4  # fatal messages only: an error at run is raised, and judged, anyway


class OrtCpu:
    """ONNX Runtime with the CPU execution provider."""

    name: Final = "ort-cpu"
    profile: Final = "strict"
    device: Final = "cpu"

    def availability(self) -> Availability:
        """Tell whether onnxruntime can be imported."""
        try:
            importlib.import_module("onnxruntime")
        except Exception as exc:  # a broken wheel raises more than ImportError
            return Availability(is_available=False, reason=f"onnxruntime cannot be imported: {exc}")
        return Availability(is_available=True)

    def version(self) -> str:
        """Return the version of onnxruntime."""
        return str(importlib.import_module("onnxruntime").__version__)

    def load(self, model_path: Path, *, threads: int) -> OrtSession:
        """Load a file; onnxruntime's own exception tells what it does not support."""
        return OrtSession(str(model_path), threads=threads)


class OrtSession:
    """One InferenceSession on the CPU provider.

    Args:
        model: Path of a file, or a serialised model.
        threads: Threads that one operator may use.
        external_folder: Where a serialised model finds its external data.
        profiled: Record which provider executes each node, during the first run that succeeds.
            Nodes are placed when a model is loaded, so one run tells for all of them.
    """

    def __init__(
        self,
        model: str | bytes,
        *,
        threads: int,
        external_folder: Path | None = None,
        profiled: bool = True,
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _SILENT
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
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
        self._nodes: tuple[tuple[str, str, str], ...] = ()
        try:
            self._session: Any = onnxruntime.InferenceSession(
                model, sess_options=options, providers=[_PROVIDER]
            )
        except BaseException:
            self._drop_profile()
            raise
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Compute all outputs, in the graph's order."""
        answers = self._session.run(self._names, dict(inputs))
        if self._profile_folder is not None:
            self._nodes = _executed_nodes(Path(self._session.end_profiling()))
            self._drop_profile()
        return dict(zip(self._names, answers, strict=True))

    def provenance(self) -> Provenance:
        """Tell which providers executed nodes, from the session's own profile."""
        counts = Counter(provider for _, _, provider in self._nodes)
        return Provenance(
            providers=tuple(sorted(ProviderUse(name, count) for name, count in counts.items())),
            fallback_nodes=tuple(
                f"{name} ({operator} on {provider})"
                for name, operator, provider in self._nodes
                if provider != _PROVIDER
            ),
            threads=self._threads,
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


def _executed_nodes(profile: Path) -> tuple[tuple[str, str, str], ...]:
    """Read (node, operator, provider) of each executed node, once each, in order of execution."""
    events = json.loads(profile.read_text(encoding="utf-8"))
    found: dict[str, tuple[str, str, str]] = {}
    for event in events:
        details = event.get("args", {})
        if event.get("cat") == "Node" and "provider" in details:
            name = str(event["name"]).removesuffix("_kernel_time")
            found.setdefault(name, (name, str(details["op_name"]), str(details["provider"])))
    return tuple(found.values())
