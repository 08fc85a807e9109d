"""What a reader sees besides the node: the graph, the layouts so far, the shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from anysize.surgery.graph import Graph
from anysize.surgery.heads.layout import Layout
from anysize.surgery.shapes import Shape

__all__ = ["ReadContext"]


@dataclass(frozen=True, slots=True)
class ReadContext:
    """A head while it is being read, from the feature map to the outputs.

    Attributes:
        graph: The graph.
        layouts: Tensor → layout, of the feature map and of what has been read.
        shapes: Tensor → shape at the training size.
        other: The same for another batch; empty where the file declares a batch.
        other_batch: That batch.
    """

    graph: Graph
    layouts: dict[str, Layout] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    other: Mapping[str, Shape] = field(default_factory=dict)
    other_batch: int = 0
