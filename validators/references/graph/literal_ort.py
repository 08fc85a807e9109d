"""ONNX Runtime as the reference's arithmetic: each operator as the graph has it, in a worker.

An original is somebody's file like any other: what crashes ONNX Runtime, or keeps it busy for ever,
must not do so here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from anysize.validators.references.graph.plan import PlannedGraph
from anysize.validators.runtimes import OrtCpu, OrtSession
from anysize.validators.worker import SharedWorker

__all__ = ["WORKER", "LiteralOrt"]


class LiteralOrt(OrtCpu):
    """ONNX Runtime that fuses no quantisation, as it runs in the worker."""

    def load(self, model_path: Path, *, threads: int) -> OrtSession:
        """Load the graph of a plan.

        Args:
            model_path: A plan, as `GraphPlan` writes it.
            threads: Threads that one operator may use.
        """
        plan = PlannedGraph.read(model_path)
        return OrtSession(
            str(plan.graph) if plan.folder is None else plan.graph.read_bytes(),
            threads=threads,
            external_folder=plan.folder,
            profiled=False,
            is_literal=True,
        )


# Every reference of this process has its sessions here; it ends when the process does.
WORKER: Final = SharedWorker(f"{LiteralOrt.__module__}:{LiteralOrt.__qualname__}")
