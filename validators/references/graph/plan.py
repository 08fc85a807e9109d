"""A graph written down for a worker."""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anysize.validators.runtimes import PlannedGraph

if TYPE_CHECKING:
    import onnx

__all__ = ["GraphPlan"]

# A convolution with so many weights is a fully connected layer: to lay them out takes as long as
# twenty runs gain by it (VGG-16's 7×7×512→4096: 1.8 s, and some 0.1 s for an image).
_MANY_WEIGHTS: Final = 1 << 24


class GraphPlan:
    """A plan in a folder of its own, which is removed with this object.

    Args:
        source: The graph.
        folder: Where its weights lie that are not in memory.

    Raises:
        EncodeError: The graph is too large for a file.
    """

    def __init__(self, source: onnx.ModelProto, *, folder: Path | None) -> None:
        from anysize.surgery.storage import attached

        temporary = tempfile.mkdtemp(prefix="anysize-reference-")
        self.close = weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)
        self.path = Path(temporary) / "plan.json"
        graph, folder = self.path.with_name("graph.onnx"), (folder or Path()).absolute()
        try:
            graph.write_bytes(attached(source, folder).SerializeToString())
            PlannedGraph(graph, folder, _pays_to_lay_out(source)).write(self.path)
        except BaseException:
            self.close()
            raise


def _pays_to_lay_out(model: onnx.ModelProto) -> bool:
    kernels = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    weights = (t for t in model.graph.initializer if t.name in kernels)
    return all(math.prod(tensor.dims) < _MANY_WEIGHTS for tensor in weights)
