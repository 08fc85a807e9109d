"""ONNX Runtime as the reference computes by it, and as the proof of a new file runs it.

An original is somebody's file like any other: what crashes ONNX Runtime, or keeps it busy for ever,
must not do so here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from anysize.validators.references.graph.plan import GraphPlan
from anysize.validators.worker import IsolatedRuntime, IsolatedSession, SharedWorker

__all__ = ["WORKER", "MappedOrt"]

_TARGET: Final = "anysize.validators.runtimes.literal_ort:LiteralOrt"
# Every reference of this process has its sessions here; it ends when the process does.
WORKER: Final = SharedWorker(_TARGET)


class MappedOrt(IsolatedRuntime):
    """ONNX Runtime's CPU provider for a few runs of a file: the graph is read, its weights mapped.

    It reads a file by itself in a multiple of the time of a run (VGG-16 as convolutions: 4.5 s).
    """

    def __init__(self) -> None:
        super().__init__("ort-cpu", _TARGET)
        self._plan: GraphPlan | None = None

    def load(self, model_path: Path, *, threads: int) -> IsolatedSession:
        """Load a model in a worker; raises what `IsolatedRuntime.load` does."""
        from anysize.surgery import load_model

        model = load_model(model_path, weights="in_file")
        self._plan = GraphPlan(model, folder=model_path.parent)  # a new worker needs it again
        return super().load(self._plan.path, threads=threads)
