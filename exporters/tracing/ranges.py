"""What counts cells or is laid out over them: computed in a trace only where no image has a part.

Tables of positions are made from `torch.arange` of the map's sides, by adding up ones, or from a
parameter that is resized or repeated. torch.onnx computes them while it traces, unless they are
large, and a table says no more where it comes from; a Range does: its limit is a side. So these are
left whole until two traces have been compared; those in which nothing differs are computed then.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer

from anysize.exporters.tracing.constant_weights import fold_weights
from anysize.exporters.tracing.placeholder import WHOLE
from anysize.exporters.tracing.rewrite_rules import rules_where_they_fit

__all__ = ["fold_ranges", "optimise"]

# Elements of a table, as torch.onnx has it.
_MOST = 1 << 18
_OPERATORS = ("CumSum", "EyeLike", "Range", "Resize", "Tile", "Trilu")


def optimise(model: ir.Model) -> None:
    """Optimise a graph in place, as torch.onnx does, but leave whole what depends on lengths."""
    passes.InlinePass()(model)
    for number, node in enumerate(_whole(model)):
        node.attributes[WHOLE] = ir.AttrInt64(WHOLE, number)
    with rules_where_they_fit():
        optimizer.optimize_ir(model, should_fold=_unless_whole, inline=False)


def fold_ranges(*models: ir.Model) -> None:
    """Compute, in place, what is the same in all traces of one module, and what is made of it.

    Args:
        *models: Traces; what is given other lengths in one of them stays.
    """
    whole = [_whole(model) for model in models]
    if not any(whole):
        return
    alike = {node for nodes in zip(*whole, strict=False) if _are_alike(nodes) for node in nodes}
    for model, nodes in zip(models, whole, strict=True):
        for node in alike.intersection(nodes):
            node.attributes.pop(WHOLE)
        fold_weights(model, most=_MOST)
        for node in _whole(model):
            node.attributes.pop(WHOLE, None)


def _whole(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type in _OPERATORS and not node.domain]


def _unless_whole(node: ir.Node) -> bool | None:
    return False if WHOLE in node.attributes else None


def _are_alike(nodes: tuple[ir.Node, ...]) -> bool:
    """Say whether all compute the same, and from constants."""
    arrays = [_constants(node) for node in nodes]
    return all(
        each is not None and arrays[0] is not None and all(map(np.array_equal, each, arrays[0]))
        for each in arrays
    )


def _constants(node: ir.Node) -> list[npt.NDArray[Any]] | None:
    """Return the inputs that there are; None where one is computed."""
    given = [value for value in node.inputs if value is not None]
    tensors = [ir.convenience.get_const_tensor(value) for value in given]
    return [t.numpy() for t in tensors if t is not None] if None not in tensors else None
