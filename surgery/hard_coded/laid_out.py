"""What is laid out for the sides of a map: a spectrum, windows put back, a grid, places."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from anysize.surgery.graph import Graph, attribute, opset_version
from anysize.surgery.hard_coded.number import Number, constant, following, uniform
from anysize.surgery.shapes import ShapeRun

__all__ = ["LAYING_OUT", "laid_out"]

# Are given the sides of a map, or make whole numbers of where in a map something is.
LAYING_OUT = frozenset({"ArgMax", "ArgMin", "Col2Im", "DFT", "GridSample", "TopK"})

# From there on the axis of a DFT is an input.
_AXIS_IS_INPUT = 20
_RANK = 4


def laid_out(graph: Graph, index: int, trained: ShapeRun, larger: ShapeRun) -> Iterator[Number]:
    """Find the sides of a map, if a node is given any."""
    node = graph.node(index)
    if node.domain not in ("", "ai.onnx") or len(node.input) < 2:
        return
    shape, other = (run.shapes.get(node.input[0], ()) for run in (trained, larger))
    given = constant(node.input[1], trained, larger)
    given = given if given is not None and given.size else None
    if node.op_type == "Col2Im" and given is not None and shape != other:
        yield Number(index, 1, int(given.ravel()[-1]), "a side of a map")
    if node.op_type == "DFT" and given is not None:
        axis = _axis_of_spectrum(graph, node, trained)
        if shape[axis : axis + 1] != other[axis : axis + 1]:
            yield Number(index, 1, int(given.ravel()[0]), f"the {shape[axis]} cells of an axis")
    if node.op_type == "GridSample" and len(shape) == _RANK and shape != other:
        grids = [run.shapes.get(node.input[1], ()) for run in (trained, larger)]
        if grids[0] == grids[1] and grids[0][1:3] == shape[2:4]:
            sides = "×".join(map(str, shape[2:4]))
            yield Number(index, 1, shape[2], f"a side of a grid that is laid out for {sides}")
    if node.op_type in ("Div", "Mod") and given is not None and given.dtype == np.int64:
        is_computed = trained.types.get(node.input[0]) == onnx.TensorProto.INT64
        if is_computed and node.input[0] not in trained.values:
            number = uniform(given)
            if number is not None and int(number) in following(trained, larger):
                yield Number(index, 1, int(number), "a side of a map, by which places are divided")


def _axis_of_spectrum(graph: Graph, node: onnx.NodeProto, trained: ShapeRun) -> int:
    """Return the axis of a DFT: an input from opset 20 on, an attribute before."""
    rank = len(trained.shapes.get(node.input[0], ()))
    if opset_version(graph.model) < _AXIS_IS_INPUT:
        axis = int(attribute(node, "axis", 1))  # type: ignore[call-overload]
    else:
        given = trained.values.get(node.input[2]) if len(node.input) > 2 else None
        axis = -2 if given is None or not given.size else int(given.ravel()[0])
    return axis % rank if rank else 0
