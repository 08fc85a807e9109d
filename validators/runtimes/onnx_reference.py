"""The reference evaluator of the onnx package: slow, plain NumPy, and the specification's word."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from anysize.validators.runtimes.importable import importable
from anysize.validators.runtimes.protocol import Availability, Provenance, ProviderUse

if TYPE_CHECKING:
    import onnx

__all__ = ["EvaluatorSession", "OnnxReferenceRuntime"]


class OnnxReferenceRuntime:
    """`onnx.reference.ReferenceEvaluator`."""

    name: Final = "onnx-reference"
    profile: Final = "strict"
    device: Final = "cpu"

    def availability(self) -> Availability:
        """Tell whether onnx can be imported."""
        return importable("onnx.reference")

    def version(self) -> str:
        """Return the version of onnx."""
        return str(importlib.import_module("onnx").__version__)

    def load(self, model_path: Path, *, threads: int) -> EvaluatorSession:  # noqa: ARG002
        """Load a file with its external data."""
        import onnx

        return EvaluatorSession(onnx.load(model_path))


class EvaluatorSession:
    """One ReferenceEvaluator; the model's own element types decide the precision.

    Args:
        model: With its external data loaded.
        weights: Values for inputs that are the same in every run.
        operators: Classes that stand in for the evaluator's own.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        *,
        weights: Mapping[str, NDArray[np.generic]] | None = None,
        operators: Sequence[type] = (),
    ) -> None:
        from onnx.reference import ReferenceEvaluator

        self._evaluator = ReferenceEvaluator(model, new_ops=list(operators))
        self._names = [output.name for output in model.graph.output]
        self._nodes = len(model.graph.node)
        self._weights = dict(weights or {})

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Compute all outputs, in the graph's order."""
        # NumPy warns of overflow and of empty slices; what they lead to is judged by value.
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answers = self._evaluator.run(None, {**self._weights, **inputs})
        return {name: np.asarray(answer) for name, answer in zip(self._names, answers, strict=True)}

    def provenance(self) -> Provenance:
        """NumPy executes every node, whatever its threads."""
        return Provenance(providers=(ProviderUse("ReferenceEvaluator", self._nodes),))

    def close(self) -> None:
        """Release the model."""
        del self._evaluator
        self._weights.clear()
