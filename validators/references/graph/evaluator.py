"""The specification's evaluator as the arbiter of graphs, in a worker.

It is written in Python: what keeps ONNX Runtime busy for a second may keep it busy for a day.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from anysize.validators.runtimes import EvaluatorSession, OnnxReferenceRuntime, PlannedGraph
from anysize.validators.worker import SharedWorker

if TYPE_CHECKING:
    import onnx

__all__ = ["DOUBLE", "OWN", "DoubleEvaluator", "OwnEvaluator", "double_session"]


class DoubleEvaluator(OnnxReferenceRuntime):
    """Evaluates a graph in float64 throughout."""

    def load(self, model_path: Path, *, threads: int) -> EvaluatorSession:  # noqa: ARG002
        """Load the graph of a plan; NumPy and PyTorch have threads of their own."""
        return double_session(*_read(model_path))


class OwnEvaluator(OnnxReferenceRuntime):
    """Evaluates a graph in its own types."""

    def load(self, model_path: Path, *, threads: int) -> EvaluatorSession:  # noqa: ARG002
        """Load the graph of a plan; NumPy has threads of its own."""
        from anysize.surgery.storage import all_tensors, is_loaded, load_tensor
        from anysize.validators.references.graph.operators import ARBITER_OPERATORS

        model, folder = _read(model_path)
        for tensor in all_tensors(model):
            if not is_loaded(tensor):
                load_tensor(tensor, folder)
        return EvaluatorSession(model, operators=ARBITER_OPERATORS)


def double_session(model: onnx.ModelProto, folder: Path | None = None) -> EvaluatorSession:
    """Load a graph into the evaluator, in float64 and with the operators of the arbiter.

    Args:
        model: Not modified.
        folder: Where weights lie that are not in memory.
    """
    from anysize.validators.references.graph.float64 import to_float64
    from anysize.validators.references.graph.operators import ARBITER_OPERATORS

    graph = to_float64(model, folder=folder)
    return EvaluatorSession(graph.model, weights=graph.weights, operators=ARBITER_OPERATORS)


def _read(plan: Path) -> tuple[onnx.ModelProto, Path]:
    """Read the graph of a plan, which leaves large weights where they are."""
    import onnx

    found = PlannedGraph.read(plan)
    return onnx.load_model(found.graph, load_external_data=False), found.folder


# As with ONNX Runtime, all sessions of this process are there.
DOUBLE: Final = SharedWorker(f"{__name__}:{DoubleEvaluator.__qualname__}")
OWN: Final = SharedWorker(f"{__name__}:{OwnEvaluator.__qualname__}")
