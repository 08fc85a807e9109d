"""Find what a static trace took from the size of its example image, by tracing at two sizes.

Two traces of one module, at batches and sizes that differ, have the same operators unless the
module branches on the size. Where they have, the attributes and constants that differ are exactly
the ones that depend on the size: each must be replaced by something computed from the input
(`anysize.surgery.passes`, `anysize.exporters.lowerings`), or the graph is wrong at other sizes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
import onnx_ir as ir

from anysize.errors import ExportError
from anysize.exporters.tracing import HeldSizeError, Trace, origin, shortened

__all__ = [
    "HardCodedValue",
    "hard_coded_values",
    "refuse_hard_coded",
    "refuse_random",
    "still_hard_coded",
]


_RANDOM = frozenset(
    {
        "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
        "RandomUniformLike",
    }
)  # fmt: skip
# How many times the operators a trace of a loop over the image has at least, at the larger size.
_LOOP = 1.5
_NUMBER = re.compile(r"[-+.\w]+")


@dataclass(frozen=True, slots=True)
class HardCodedValue:
    """An attribute or a constant input that differs between two traces of one module.

    Attributes:
        node: Name of the node that has it.
        operator: The node's operator.
        attribute: Name of the attribute, or "" for an input.
        constant: Name of the initializer, or "" for an attribute.
        values: The value in either trace, as text.
        origin: The layer that wrote the node, as the user's module names it.
    """

    node: str
    operator: str
    attribute: str
    constant: str
    values: tuple[str, str]
    origin: str


def _constant_difference(first: ir.Value, second: ir.Value) -> tuple[str, str] | None:
    """Compare two constants; parameters share their memory and are equal at once."""
    one, two = first.const_value, second.const_value
    if one is None or two is None:
        return None
    if getattr(one, "raw", one) is getattr(two, "raw", two):
        return None
    if one.shape != two.shape or one.dtype != two.dtype:
        return f"{one.dtype}{one.shape}", f"{two.dtype}{two.shape}"
    left, right = one.numpy(), two.numpy()
    if left.tobytes() == right.tobytes():
        return None
    if left.size <= 16:
        return shortened(left.tolist()), shortened(right.tolist())
    place = np.argmax(left.reshape(-1) != right.reshape(-1))
    return f"…{left.flat[place]}…", f"…{right.flat[place]}…"


def hard_coded_values(first: Trace, second: Trace) -> tuple[HardCodedValue, ...]:
    """Compare two traces of one module.

    Raises:
        HeldSizeError: The traces have different operators: the module branches on the size.
        ExportError: The module loops over the image's cells.
    """
    nodes, others = list(first.model.graph), list(second.model.graph)
    _refuse_loop(first, second, len(nodes), len(others))
    found: list[HardCodedValue] = []
    for node, other in zip(nodes, others, strict=False):
        if (node.domain, node.op_type) != (other.domain, other.op_type):
            raise HeldSizeError(
                f"{origin(node)}: runs {node.op_type} at {first.size} and {other.op_type} at "
                f"{second.size}; a graph has one path for all sizes"
            )
        about = partial(HardCodedValue, node.name or "", node.op_type, origin=origin(node))
        for name, attribute in node.attributes.items():
            twin = other.attributes.get(name)
            ours, theirs = attribute.value, None if twin is None else twin.value
            if ours != theirs:
                values = shortened(ours), shortened(theirs)
                found.append(about(attribute=name, constant="", values=values))
        if len(node.inputs) != len(other.inputs):
            raise HeldSizeError(
                f"{origin(node)}: gives {node.op_type} {len(node.inputs)} inputs at {first.size} "
                f"and {len(other.inputs)} at {second.size}; a graph has one path for all sizes"
            )
        for value, counterpart in zip(node.inputs, other.inputs, strict=True):
            if value is None or counterpart is None:
                continue
            difference = _constant_difference(value, counterpart)
            if difference:
                found.append(about(attribute="", constant=value.name or "", values=difference))
    if len(nodes) != len(others):
        raise HeldSizeError(
            f"the module runs {len(nodes)} operators at {first.size} and {len(others)} at "
            f"{second.size}; a graph has one path for all sizes"
        )
    return tuple(found)


def _refuse_loop(first: Trace, second: Trace, count: int, other: int) -> None:
    """Refuse a module that runs more operators on a larger image, which no symbol stands for."""
    if max(count, other) > _LOOP * min(count, other):
        raise ExportError(
            f"the module runs {count} operators on images of {first.batch}×{first.size} and "
            f"{other} on {second.batch}×{second.size}, so that a loop in its code counts cells; a "
            "graph has one path for all sizes: write the loop as operations on whole tensors"
        )


def refuse_random(trace: Trace) -> None:
    """Refuse a module that draws numbers: no file computes what it computes.

    Raises:
        ExportError: It does; the layer and its line are named.
    """
    for node in trace.model.graph:
        is_training = node.op_type == "Dropout" and len(node.inputs) > 2
        if not node.domain and (node.op_type in _RANDOM or is_training):
            raise ExportError(
                f"{origin(node)}: draws numbers ({node.op_type}); what is drawn at random has no "
                "place in evaluation"
            )


def still_hard_coded(
    model: onnx.ModelProto, hard_coded: tuple[HardCodedValue, ...]
) -> tuple[HardCodedValue, ...]:
    """Return the values of one trace's size that a graph made from it still uses."""
    nodes = {node.name: node for node in model.graph.node}
    return tuple(value for value in hard_coded if _is_used(value, nodes.get(value.node)))


def _is_used(value: HardCodedValue, node: onnx.NodeProto | None) -> bool:
    if node is None or node.op_type != value.operator:
        return False
    if value.constant:
        return value.constant in node.input
    return _still_has(node, value)


def refuse_hard_coded(hard_coded: tuple[HardCodedValue, ...], first: Trace, second: Trace) -> None:
    """Refuse a graph in which a value of one trace's size is still used.

    Raises:
        HeldSizeError: There is one; the layer and its line are named.
    """
    for value in hard_coded:
        what = value.attribute or "an input"
        is_array = value.values[0].startswith("[") and "." in value.values[0]
        is_random = value.operator.startswith("Random") or is_array
        advice = "; what is drawn at random has no place in evaluation" if is_random else ""
        raise HeldSizeError(
            f"{value.origin}: {value.operator} has {what} {value.values[0]} for images of "
            f"{first.batch}×{first.size} and {value.values[1]} for {second.batch}×{second.size}, "
            f"and what it is of the image's batch, height and width is not known{advice}"
        )


def _still_has(node: onnx.NodeProto, value: HardCodedValue) -> bool:
    for attribute in node.attribute:
        if attribute.name == value.attribute:
            now = shortened(onnx.helper.get_attribute_value(attribute))
            return _NUMBER.findall(now) == _NUMBER.findall(value.values[0])
    return False
