"""Counting cells: computed in a trace only where the image has no part in it.

Tables of positions are made from `torch.arange` of the map's sides, or by adding up ones.
torch.onnx computes them while it traces, and a table says no more where it comes from; a Range
does: its limit is a side. So they are left whole until two traces have been compared, and those in
which nothing differs are computed then.
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

__all__ = ["fold_ranges", "optimise"]

# Their results tell cells apart that are alike in what they are given.
_COUNTING = ("CumSum", "EyeLike", "Range", "Trilu")


def optimise(model: ir.Model) -> None:
    """Optimise a graph in place, as torch.onnx does, but leave whole what counts."""
    passes.InlinePass()(model)
    for number, node in enumerate(_ranges(model)):
        node.attributes[WHOLE] = ir.AttrInt64(WHOLE, number)
    optimizer.optimize_ir(model, should_fold=_unless_whole, inline=False)


def fold_ranges(*models: ir.Model) -> None:
    """Compute, in place, what is the same in all traces of one module, and what is made of it.

    Args:
        *models: Traces; what counts otherwise in one of them than in another stays.
    """
    ranges = [_ranges(model) for model in models]
    if not any(ranges):
        return
    alike = {node for nodes in zip(*ranges, strict=False) if _are_alike(nodes) for node in nodes}
    for model, nodes in zip(models, ranges, strict=True):
        for node in alike.intersection(nodes):
            node.attributes.pop(WHOLE)
        optimizer.fold_constants(model, should_fold=_unless_whole)
        passes.RemoveUnusedNodesPass()(model)
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        fold_weights(model)
        for node in _ranges(model):
            node.attributes.pop(WHOLE, None)


def _ranges(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type in _COUNTING and not node.domain]


def _unless_whole(node: ir.Node) -> bool | None:
    return False if WHOLE in node.attributes else None


def _are_alike(nodes: tuple[ir.Node, ...]) -> bool:
    """Say whether all count alike, and from constants."""
    arrays = [[_constant(value) for value in node.inputs] for node in nodes]
    return all(
        one is not None and other is not None and np.array_equal(one, other)
        for each in arrays
        for one, other in zip(each, arrays[0], strict=True)
    )


def _constant(value: ir.Value | None) -> npt.NDArray[Any] | None:
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()
