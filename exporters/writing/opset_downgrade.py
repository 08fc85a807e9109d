"""Operators in the form that they had at an older opset, one function each.

Sources: the changelog of the ONNX operators, and the function bodies that the specification gives
for HardSwish, Mish and LayerNormalization.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from anysize.surgery.graph import attribute
from anysize.surgery.operators import Emitter
from anysize.surgery.storage import is_loaded

__all__ = ["DOWNGRADES", "Conversion", "Downgrade"]

_END = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Conversion:
    """One node to write anew.

    Attributes:
        node: The node, in the newer form; not modified.
        emitter: Where the older form goes.
        graph: The graph, for its constants.
        values: What is known of the tensors' types and shapes.
        opset: The opset to write.
    """

    node: onnx.NodeProto
    emitter: Emitter
    graph: onnx.GraphProto
    values: Mapping[str, onnx.ValueInfoProto]
    opset: int

    def attribute(self, name: str, default: Any) -> Any:
        """Return the value of one of the node's attributes."""
        return attribute(self.node, name, default)

    def input(self, position: int) -> str:
        """Return the name of an input; "" where it is absent."""
        return self.node.input[position] if position < len(self.node.input) else ""

    def constant(self, position: int) -> npt.NDArray[Any] | None:
        """Return the value of an input that is an initializer; None for a large one."""
        for tensor in self.graph.initializer:
            if tensor.name == self.input(position) and is_loaded(tensor):
                array: npt.NDArray[Any] = numpy_helper.to_array(tensor)
                return array
        return None

    def shape(self, position: int) -> list[int | None] | None:
        """Return the sides of an input, None where one is symbolic; None without a rank."""
        value = self.values.get(self.input(position))
        if value is None or not value.type.tensor_type.HasField("shape"):
            return None
        return [dim.dim_value or None for dim in value.type.tensor_type.shape.dim]

    def element_type(self) -> int:
        """Return the element type of the first input; float where it is not known."""
        value = self.values.get(self.input(0))
        known = value.type.tensor_type.elem_type if value is not None else 0
        return int(known or onnx.TensorProto.FLOAT)

    def scalar(self, number: float) -> str:
        """Add a constant of the first input's type."""
        return self.emitter.constant(
            number, dtype=helper.tensor_dtype_to_np_dtype(self.element_type())
        )

    def write(self, op_type: str, *inputs: str, **attributes: Any) -> None:
        """Write the node that makes the outputs, under the node's own name."""
        made = helper.make_node(
            op_type, inputs, list(self.node.output), name=self.node.name, **attributes
        )
        self.emitter.nodes.append(made)

    def keep(self, *inputs: str, leave_out: tuple[str, ...] = ()) -> None:
        """Write the node again, with other inputs and fewer attributes."""
        self.write(self.node.op_type, *inputs)
        kept = [entry for entry in self.node.attribute if entry.name not in leave_out]
        self.emitter.nodes[-1].attribute.extend(kept)


Write = Callable[[Conversion], str]


@dataclass(frozen=True, slots=True)
class Downgrade:
    """How an operator is written below some opset.

    Attributes:
        below: The first opset that has the newer form.
        write: Writes the older form; returns why it cannot, or "".
    """

    below: int
    write: Write


def _reduction(at: Conversion) -> str:
    """Below 18 the axes are an attribute."""
    axes = at.constant(1)
    if at.input(1) and axes is None:
        return "its axes are computed"
    if axes is None or not axes.size:
        if at.attribute("noop_with_empty_axes", 0):
            return "noop_with_empty_axes is new since"
        at.keep(at.input(0), leave_out=("noop_with_empty_axes",))
        return ""
    at.keep(at.input(0), leave_out=("noop_with_empty_axes",))
    at.emitter.nodes[-1].attribute.append(
        helper.make_attribute("axes", [int(axis) for axis in axes])
    )
    return ""


def _split(at: Conversion) -> str:
    """Below 18 a Split without sizes is into equal parts, as many as there are outputs."""
    if not at.attribute("num_outputs", 0):
        at.keep(*at.node.input)
        return ""
    shape, axis, count = at.shape(0), at.attribute("axis", 0), len(at.node.output)
    side = shape[axis] if shape else None
    if side is None or side % count:
        return f"its parts are not known to be equal ({side or 'unknown'} by {count})"
    at.keep(*at.node.input, leave_out=("num_outputs",))
    return ""


def _shape(at: Conversion) -> str:
    """Below 15 Shape has no start and end: Slice takes the part."""
    start, end = at.attribute("start", 0), at.attribute("end", None)
    if start == 0 and end is None:
        at.keep(*at.node.input)
        return ""
    whole = at.emitter.node("Shape", at.input(0))
    bounds = at.emitter.constant([start]), at.emitter.constant([_END if end is None else end])
    at.write("Slice", whole, *bounds)
    return ""


def _without(**neutral: Any) -> Write:
    """Leave out attributes that are new since; each must have the value that says nothing."""

    def write(at: Conversion) -> str:
        for name, value in neutral.items():
            if at.attribute(name, value) != value:
                return f"{name} is new since"
        at.keep(*at.node.input, leave_out=tuple(neutral))
        return ""

    return write


def _pad(at: Conversion) -> str:
    """Below 18 the pads are for all axes."""
    if not at.input(3):
        at.keep(*at.node.input[:3])
        return ""
    pads, axes, shape = at.constant(1), at.constant(3), at.shape(0)
    if pads is None or axes is None or shape is None:
        return "its axes are new since, and its pads or its rank are not known"
    rank = len(shape)
    full = np.zeros((2, rank), np.int64)
    full[:, [int(axis) % rank for axis in axes]] = pads.reshape(2, -1)
    value = [at.input(2)] if at.input(2) else []
    at.keep(at.input(0), at.emitter.constant(full.reshape(-1)), *value)
    return ""


def _reshape(at: Conversion) -> str:
    """Below 14 a 0 always copies a side; without one allowzero says nothing."""
    target = at.constant(1)
    if at.attribute("allowzero", 0) and (target is None or 0 in target):
        return "allowzero is new since"
    at.keep(*at.node.input, leave_out=("allowzero",))
    return ""


def _batch_normalization(at: Conversion) -> str:
    """Below 14, as a factor and an addend for each channel, worked out in float64.

    The operator of 9 to 13 is right in every runtime, but onnx's evaluator (1.23) takes any for
    one in training.
    """
    if at.attribute("training_mode", 0) or len([name for name in at.node.output if name]) > 1:
        return "it is in training mode"
    constants, shape = [at.constant(position) for position in range(1, 5)], at.shape(0)
    if shape is None or any(constant is None for constant in constants):
        return "its statistics or the rank of its input are not known"
    scale, bias, mean, variance = (np.float64(array) for array in constants)
    factor = scale / np.sqrt(variance + at.attribute("epsilon", 1e-5))
    dtype = helper.tensor_dtype_to_np_dtype(at.element_type())
    sides = (-1, *(1 for _ in shape[2:]))
    emit = at.emitter
    scaled = emit.node("Mul", at.input(0), emit.constant(factor.reshape(sides), dtype=dtype))
    addend = (bias - mean * factor).reshape(sides)
    at.write("Add", scaled, emit.constant(addend, dtype=dtype))
    return ""


def _layer_normalization(at: Conversion) -> str:
    """Below 17: mean, deviation, mean of squares, root, quotient, scale and bias."""
    if len([name for name in at.node.output if name]) > 1:
        return "its mean and deviation are read"
    axis, shape = at.attribute("axis", -1), at.shape(0)
    if axis >= 0:
        if shape is None:
            return "the rank of its input is not known"
        axis -= len(shape)
    axes = list(range(axis, 0))
    emit, source = at.emitter.node, at.input(0)
    deviation = emit("Sub", source, emit("ReduceMean", source, axes=axes, keepdims=1))
    variance = emit("ReduceMean", emit("Mul", deviation, deviation), axes=axes, keepdims=1)
    root = emit("Sqrt", emit("Add", variance, at.scalar(at.attribute("epsilon", 1e-5))))
    normalised = emit("Div", deviation, root)
    if not at.input(2):
        at.write("Mul", normalised, at.input(1))
    else:
        at.write("Add", emit("Mul", normalised, at.input(1)), at.input(2))
    return ""


def _hard_swish(at: Conversion) -> str:
    """Below 14: x · HardSigmoid(x / 6 + 1/2)."""
    gate = at.emitter.node("HardSigmoid", at.input(0), alpha=1 / 6, beta=0.5)
    at.write("Mul", at.input(0), gate)
    return ""


def _mish(at: Conversion) -> str:
    """Below 18: x · tanh(softplus(x))."""
    gate = at.emitter.node("Tanh", at.emitter.node("Softplus", at.input(0)))
    at.write("Mul", at.input(0), gate)
    return ""


def _roi_align(at: Conversion) -> str:
    """Below 16 the coordinates are those of output_half_pixel."""
    if at.attribute("coordinate_transformation_mode", "half_pixel") != "output_half_pixel":
        return "half_pixel coordinates are new since"
    at.keep(*at.node.input, leave_out=("coordinate_transformation_mode",))
    return ""


DOWNGRADES: dict[str, Downgrade] = {
    **{
        f"Reduce{kind}": Downgrade(18, _reduction)
        for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
    },
    "BatchNormalization": Downgrade(14, _batch_normalization),
    "HardSwish": Downgrade(14, _hard_swish),
    "LayerNormalization": Downgrade(17, _layer_normalization),
    "Mish": Downgrade(18, _mish),
    "Pad": Downgrade(18, _pad),
    "Reshape": Downgrade(14, _reshape),
    # A Resize neither filtered nor kept ratios, and took all axes.
    "Resize": Downgrade(18, _without(antialias=0, axes=None, keep_aspect_ratio_policy="stretch")),
    "RoiAlign": Downgrade(16, _roi_align),
    "Shape": Downgrade(15, _shape),
    "Split": Downgrade(18, _split),
}
