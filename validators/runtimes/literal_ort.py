"""ONNX Runtime as the reference's arithmetic: each operator as the graph has it.

A worker imports this file, and by it neither onnx nor PyTorch, which take longer than most graphs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from anysize.validators.runtimes.ort_cpu import OrtCpu
from anysize.validators.runtimes.ort_session import OrtSession

__all__ = ["LiteralOrt", "PlannedGraph"]


@dataclass(frozen=True, slots=True)
class PlannedGraph:
    """A graph in files, as a worker is told to load it.

    Attributes:
        graph: The file of the graph.
        folder: Where its external weights lie.
        is_laid_out: Lay out the weights of convolutions for this processor.
    """

    graph: Path
    folder: Path
    is_laid_out: bool

    @classmethod
    def read(cls, plan: Path) -> Self:
        """Read what `write` wrote."""
        found = json.loads(plan.read_text(encoding="utf-8"))
        return cls(Path(found["graph"]), Path(found["folder"]), found["is_laid_out"])

    def write(self, plan: Path) -> None:
        """Write it down for a worker."""
        plan.write_text(json.dumps(asdict(self), default=str), encoding="utf-8")


class LiteralOrt(OrtCpu):
    """ONNX Runtime that fuses no quantisation, as it runs in the worker."""

    def load(self, model_path: Path, *, threads: int) -> OrtSession:
        """Load the graph of a plan.

        Args:
            model_path: A plan, as `PlannedGraph` writes it.
            threads: Threads that one operator may use.
        """
        plan = PlannedGraph.read(model_path)
        return OrtSession(
            plan.graph.read_bytes(),
            threads=threads,
            external_folder=plan.folder,
            profiled=False,
            is_literal=True,
            is_laid_out=plan.is_laid_out,
            is_packed=False,
        )
