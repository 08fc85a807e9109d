"""Which axes of the outputs follow the batch and the image, asked of the module itself.

A class map follows both sides, the scores of a text line its columns, and a network for text may
put its batch second. What a trace declares there is the number of one image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from anysize.exporters.sizes.probe import Probe
from anysize.sizes import Size

__all__ = ["declare_outputs"]

_Shapes = tuple[tuple[int, ...], ...]
# What an axis follows → what it is called.
_NAMES = {
    frozenset({"batch"}): "batch",
    frozenset({"height"}): "map_height",
    frozenset({"width"}): "map_width",
    frozenset({"height", "width"}): "cells",
}
_SEVERAL = "rows"  # an answer for each cell of each image


def declare_outputs(
    model: onnx.ModelProto, probe: Probe, first: tuple[int, Size], second: tuple[int, Size]
) -> bool:
    """Declare each axis of the outputs, in place: a name where it follows something, or a number.

    Args:
        model: Its outputs are the module's, in order.
        probe: The module.
        first: A batch and a size of images that the module takes.
        second: Others, different wherever the module takes another.

    Returns:
        Whether the module could be asked.
    """
    before, after = probe.output_shapes(*first), probe.output_shapes(*second)
    outputs = model.graph.output
    if not len(before) == len(after) == len(outputs):
        return False  # the tracer has left one out
    follows = _follows(probe, first, second, before, after)
    several = len(outputs) > 1
    for output, shape, axes in zip(outputs, before, follows, strict=True):
        dims = output.type.tensor_type.shape.dim
        for axis, dim in enumerate(dims) if len(dims) == len(shape) else ():
            dim.Clear()
            if axes.get(axis):
                dim.dim_param = _name(axes, axis, output.name if several else "")
            else:
                dim.dim_value = shape[axis]
    return True


def _follows(
    probe: Probe,
    first: tuple[int, Size],
    second: tuple[int, Size],
    before: _Shapes,
    after: _Shapes,
) -> Sequence[Mapping[int, frozenset[str]]]:
    """Say for each output what each of its axes follows; those that follow nothing are left out."""
    changed = [_changed(one, other) for one, other in zip(before, after, strict=True)]
    if all(axes <= {0} for axes in changed):
        return [dict.fromkeys(axes, frozenset({"batch"})) for axes in changed]
    (batch, size), (other_batch, other) = first, second
    cases = {
        "batch": (other_batch, size),
        "height": (batch, Size(other.height, size.width)),
        "width": (batch, Size(size.height, other.width)),
    }
    found = {word: probe.output_shapes(*case) for word, case in cases.items()}
    return [
        {
            axis: frozenset(
                word
                for word, shapes in found.items()
                if len(shapes) == len(before) and axis in _changed(shape, shapes[place])
            )
            or frozenset(cases)
            for axis in changed[place]
        }
        for place, shape in enumerate(before)
    ]


def _changed(one: Sequence[int], other: Sequence[int]) -> set[int]:
    if len(one) != len(other):
        return set()
    return {axis for axis, length in enumerate(one) if length != other[axis]}


def _name(axes: Mapping[int, frozenset[str]], axis: int, output: str) -> str:
    """Name an axis; what is not of the batch or of a map may differ from one output to another."""
    name = _NAMES.get(axes[axis], _SEVERAL)
    is_shared = name == "batch" or {*axes.values()} >= {frozenset({"height"}), frozenset({"width"})}
    alone = list(axes.values()).count(axes[axis]) == 1
    name = name if alone else f"{name}_{axis}"
    return name if is_shared or not output else f"{output}_{name}"
