"""ONNX Runtime as the reference's arithmetic: each operator as the graph has it, in a worker.

An original is somebody's file like any other: what crashes ONNX Runtime, or keeps it busy for ever,
must not do so here.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from anysize.validators.runtimes.ort_cpu import OrtCpu
from anysize.validators.runtimes.ort_session import OrtSession
from anysize.validators.runtimes.protocol import Provenance
from anysize.validators.worker import SharedWorker

if TYPE_CHECKING:
    import onnx

__all__ = ["LiteralOrt", "LiteralSession"]

_GRAPH: Final = "graph"
_FOLDER: Final = "external_folder"


class LiteralOrt(OrtCpu):
    """ONNX Runtime that fuses no quantisation, as it runs in the worker."""

    def load(self, model_path: Path, *, threads: int) -> OrtSession:
        """Load the graph that a plan names: a file, or one whose weights lie in another folder.

        Args:
            model_path: A plan, as `LiteralSession` writes it.
            threads: Threads that one operator may use.
        """
        plan = json.loads(model_path.read_text(encoding="utf-8"))
        graph, folder = Path(plan[_GRAPH]), plan[_FOLDER]
        return OrtSession(
            str(graph) if folder is None else graph.read_bytes(),
            threads=threads,
            external_folder=None if folder is None else Path(folder),
            profiled=False,
            is_literal=True,
        )


# Every reference of this process has its sessions here; it ends when the process does.
_WORKER: Final = SharedWorker(f"{LiteralOrt.__module__}:{LiteralOrt.__qualname__}")


class LiteralSession:
    """One graph, loaded by ONNX Runtime in a worker.

    Args:
        source: The graph, or an unchanged file.
        folder: Where the graph's weights lie that are not in memory.
        threads: Threads for ONNX Runtime.

    Raises:
        RuntimeFailedError: ONNX Runtime cannot load it; the message is its words.
        WorkerCrashedError: It ended its process.
        WorkerTimeoutError: It took too long.
    """

    def __init__(
        self, source: onnx.ModelProto | Path, *, folder: Path | None, threads: int
    ) -> None:
        from anysize.surgery.attaching import attached

        temporary = tempfile.mkdtemp(prefix="anysize-reference-")
        self._cleanup = weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)
        plan = Path(temporary) / "plan.json"
        graph: Path = plan.with_name("graph.onnx")
        if isinstance(source, Path):
            graph, folder = source.absolute(), None
        else:
            folder = folder or Path()
            graph.write_bytes(attached(source, folder).SerializeToString())
            folder = folder.absolute()
        content = {_GRAPH: str(graph), _FOLDER: None if folder is None else str(folder)}
        plan.write_text(json.dumps(content), encoding="utf-8")
        try:
            self._session = _WORKER.load(plan, threads=threads)
        except BaseException:
            self._cleanup()
            raise

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Compute all outputs, in the graph's order; raises as `IsolatedSession.run` does."""
        return self._session.run(inputs)

    def provenance(self) -> Provenance:
        """Tell nothing: what a reference ran on is no part of a report."""
        return Provenance()

    def close(self) -> None:
        """Release the graph."""
        self._session.close()
        self._cleanup()
