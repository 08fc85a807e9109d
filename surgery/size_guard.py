"""Guards that make every runtime refuse sizes that the network cannot take.

Runtimes differ there (measured with ONNX Runtime 1.31, OpenVINO 2026.4, tract 0.23, IREE 3.13):
ONNX Runtime's MaxPool answers 1×1 for a 1×1 map where PyTorch refuses; OpenVINO and IREE multiply
a feature map of the wrong size into an FC layer and answer nonsense; below the smallest size the
mean of an empty map is NaN. A Reshape to the expected shape is loud on ONNX Runtime and OpenVINO
only: IREE takes it, tract cannot load it.

Expand to a larger target is loud on all of them. It broadcasts a tensor to a target shape, does
nothing where the sides agree, and fails where they differ, unless the tensor's side is 1. To a
smaller target it is loud on most: IREE cuts the tensor down and answers. So a guard is two Expands
whose targets never shrink a side. The first expands each side a to t₁(a), the second to t₂(a),
where at a legal side both are a, and at an illegal one t₁ is more than a, or, for a = 1, t₂ is more
than t₁:

- at least m:  t₁ = max(a, m),       t₂ = max(a, 2m − a)
- exactly m:   t₁ = max(m, 2a − m),  t₂ = max(a, 2m − a)

An upper bound needs one, since a side above it is never 1:

- at most M:   t = max(a, 2a − M)

Max takes integers from opset 12 on, and tract cannot load an Expand behind Abs, Where or Cast,
which could stand for it. Before, t₁ = a + b and t₂ = a + 2b, where b is more than 0 at an illegal
side, by a division alone, F being more than any side (later tract is better off with Max):

- at least m:  b = 1 − ⌊(a + F − m) / F⌋
- at most M:   b = ⌊(a + F − M − 1) / F⌋
- exactly m:   the sum of both

A guard of remainders has for b what a table says of the remainder of a.
OpenVINO (2026.4.1) on a single thread loses the failure of any node and answers with what its
buffers held; no guard helps there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
import onnx
import onnx.numpy_helper

from anysize.errors import DeclinedError, UnsupportedModelError
from anysize.sizes import Size, SizeRange
from anysize.surgery.graph import (
    Edits,
    Graph,
    Model,
    image_input,
    opset_version,
    require_sides_together,
    unique_name,
)
from anysize.surgery.operators import Emitter, axis_length
from anysize.surgery.shapes import infer_shapes

__all__ = [
    "GuardKind",
    "drop_guards",
    "guard_map_size",
    "guard_max_size",
    "guard_min_size",
    "guard_steps",
    "guarded_image",
    "is_guard",
    "unguarded",
    "without_guards",
]

GuardKind = Literal["min", "max", "map", "steps"]

_MIN_SIZE, _MAX_SIZE, _MAP_SIZE = "anysize_min_size", "anysize_max_size", "anysize_map_size"
_STEPS = "anysize_size_steps"
_NAMES: dict[GuardKind, str] = {
    "min": _MIN_SIZE, "max": _MAX_SIZE, "map": _MAP_SIZE, "steps": _STEPS
}  # fmt: skip
# Where a map, and an image with its channels first, has its height.
_HEIGHT = 2
# Shape gained its `start` attribute, Max took integers, and Expand came, with these opsets.
_SHAPE_START_OPSET = 15
_INTEGER_MAX_OPSET = 12
_EXPAND_OPSET = 8
_PARTS = ("expanded", "checked")
# More than any side, to tell by a division whether one side is more than another.
_FAR = 1 << 20


def guard_min_size(model: Model, size: Size, *, tensor: str | None = None) -> onnx.ModelProto:
    """Make the graph fail for images lower or narrower than `size`, and leave all others alone.

    A guard of this kind that is there already goes; for 1×1 none is written.

    Args:
        model: Edited in place.
        size: The smallest legal image, in pixels, or the smallest `tensor`, in cells.
        tensor: The `(batch, channels, height, width)` tensor to guard; the image by default.

    Returns:
        `model` itself.

    Raises:
        DeclinedError: The opset has no Expand, or the image its channels between its sides.
        UnsupportedModelError: The graph has no image input.
    """
    graph = Graph.of(model)
    first = _HEIGHT if tensor else require_sides_together(graph).height
    drop_guards(graph, "min")
    if size != Size(1, 1):
        _guard(graph, tensor or image_input(graph.model).name, size, _MIN_SIZE, first)
    return graph.model


def guard_max_size(model: Model, size: Size) -> onnx.ModelProto:
    """Make the graph fail for images higher or wider than `size`, and leave all others alone.

    A guard of this kind that is there already goes.

    Args:
        model: Edited in place.
        size: The largest legal image, in pixels.

    Returns:
        `model` itself.

    Raises:
        DeclinedError: The opset has no Expand, or the image its channels between its sides.
        UnsupportedModelError: The graph has no image input.
    """
    graph = Graph.of(model)
    layout = require_sides_together(graph)
    drop_guards(graph, "max")
    _guard(graph, image_input(graph.model).name, size, _MAX_SIZE, layout.height)
    return graph.model


def guard_steps(model: Model, sizes: SizeRange) -> onnx.ModelProto:
    """Make the graph fail for images whose sides have other remainders, and leave all others alone.

    A guard of this kind that is there already goes; where all remainders are possible, none is
    written. Sides below the least one are for another guard.

    Args:
        model: Edited in place.
        sizes: The legal sizes.

    Returns:
        `model` itself.

    Raises:
        DeclinedError: The opset has no Expand, or the image its channels between its sides.
        UnsupportedModelError: The graph has no image input.
    """
    graph = Graph.of(model)
    drop_guards(graph, "steps")
    if sizes.heights.is_any and sizes.widths.is_any:
        return graph.model
    layout = require_sides_together(graph)
    _require_expand(graph)
    image = image_input(graph.model).name
    emitter = Emitter(graph.model, _STEPS)
    once, twice = [], []
    for axis, steps in zip(layout.sides, (sizes.heights, sizes.widths), strict=True):
        side = axis_length(emitter, image, axis)
        step = emitter.constant([steps.step])
        whole = emitter.node("Mul", emitter.node("Div", side, step), step)
        table = emitter.constant([int(rest not in steps) for rest in range(steps.step)])
        more = emitter.node("Gather", table, emitter.node("Sub", side, whole), axis=0)
        once.append(emitter.node("Add", side, more))
        twice.append(emitter.node("Add", once[-1], more))
    before, behind = ([emitter.constant(one)] if one else [] for one in _kept(layout.height))
    tensor = image
    for part, lengths in (("expanded", once), ("checked", twice)):
        target = emitter.node("Concat", *before, *lengths, *behind, axis=0)
        tensor = emitter.node("Expand", tensor, target, output=f"{_STEPS}_{part}")
    _insert(graph, image, f"{_STEPS}_checked", emitter.nodes, emitter.initializers)
    return graph.model


def guard_map_size(model: Model, tensor: str, size: Size) -> onnx.ModelProto:
    """Make the graph fail unless the feature map is as large as at image size `size`.

    Args:
        model: Edited in place.
        tensor: The feature map, `(batch, channels, map_height, map_width)`.
        size: The training size.

    Returns:
        `model` itself.

    Raises:
        UnsupportedModelError: The shape of `tensor` cannot be worked out.
        IllegalSizeError: The graph does not take images of `size`.
    """
    graph = Graph.of(model)
    drop_guards(graph, "map")
    shape = infer_shapes(graph, size).get(tensor)
    if shape is None or len(shape) != 4:
        raise UnsupportedModelError(
            f"tensor {tensor!r}: got shape {shape}, expected (batch, channels, height, width)"
        )
    _guard(graph, tensor, Size(shape[2], shape[3]), _MAP_SIZE, _HEIGHT)
    return graph.model


def drop_guards(model: Model, *kinds: GuardKind) -> onnx.ModelProto:
    """Remove the guards of these kinds; what reads behind them reads what they guarded.

    Args:
        model: Edited in place.
        kinds: Of what: the smallest image, the largest one, the remainders of its sides, or the
            feature map.

    Returns:
        `model` itself.
    """
    graph = Graph.of(model)
    for kind in kinds:
        name = _NAMES[kind]
        checked = f"{name}_checked"
        last = graph.producer(checked)
        if last is None:
            continue
        first = graph.producer(f"{name}_expanded")
        guarded = graph.node(last if first is None else first).input[0]
        edits = Edits()
        _redirect(graph, edits, checked, guarded)
        if not edits.nodes:  # nothing reads the image
            edits.nodes[last] = []
        edits.apply(graph)
    return graph.model


def without_guards(graph: Graph, *kinds: GuardKind) -> Graph:
    """Return a graph without these guards: itself, or a weight-free copy that lost them."""
    if all(graph.producer(f"{_NAMES[kind]}_checked") is None for kind in kinds):
        return graph
    copy = graph.light()
    drop_guards(copy, *kinds)
    return copy


def _redirect(graph: Graph, edits: Edits, old: str, new: str) -> None:
    """Let every node that reads a tensor read another."""
    for index in graph.consumers(old):
        node = onnx.NodeProto()
        node.CopyFrom(graph.node(index))
        node.input[:] = [new if name == old else name for name in node.input]
        edits.nodes[index] = [node]


def _kept(first: int) -> tuple[list[int], list[int]]:
    """Return the sides that an Expand leaves alone, before and behind those at `first`."""
    return [1] * first, [1] * (_HEIGHT - first)


def _guard(graph: Graph, tensor: str, size: Size, name: str, first: int) -> None:
    """Guard the sides of a tensor, which lie in the axes `first` and the next."""
    opset = _require_expand(graph)
    before, behind = _kept(first)
    sides = {
        "size": [size.height, size.width],
        "twice": [2 * size.height, 2 * size.width],
        "to_least": [_FAR - size.height, _FAR - size.width],
        "to_most": [_FAR - size.height - 1, _FAR - size.width - 1],
        "far": [_FAR],
        "one": [1],
        "keep": before,
        "keep_behind": behind,
        "axes": [first, first + 1],
    }
    constants = {part: unique_name(graph.model, f"{name}_{part}") for part in sides if sides[part]}
    nodes = _guard_nodes(tensor, name, opset, constants, first)
    used = {read for node in nodes for read in node.input}
    arrays = {
        label: np.array(sides[part], np.int64)
        for part, label in sorted(constants.items())
        if label in used
    }
    added = [onnx.numpy_helper.from_array(array, label) for label, array in arrays.items()]
    _insert(graph, tensor, f"{name}_checked", nodes, added)


def _require_expand(graph: Graph) -> int:
    """Return the opset, and decline one without Expand."""
    opset = opset_version(graph.model)
    if opset < _EXPAND_OPSET:
        raise DeclinedError(
            f"opset {opset}: a guard against images that the network cannot take needs opset "
            f"{_EXPAND_OPSET} or later; raise it with onnx.version_converter.convert_version"
        )
    return opset


def _insert(
    graph: Graph,
    tensor: str,
    checked: str,
    nodes: Sequence[onnx.NodeProto],
    constants: Iterable[onnx.TensorProto],
) -> None:
    """Put a guard between a tensor and whatever reads it, before the first of that."""
    edits = Edits()
    _redirect(graph, edits, tensor, checked)
    if edits.nodes:
        first = min(edits.nodes)
        edits.put(first, [*nodes, *edits.nodes[first]], constants)
        edits.apply(graph)


def _guard_nodes(
    tensor: str, name: str, opset: int, constants: dict[str, str], start: int
) -> list[onnx.NodeProto]:
    nodes: list[onnx.NodeProto] = []

    def make(op: str, part: str, *inputs: str, **attributes: int) -> str:
        label = f"{name}_{part}"
        node = onnx.helper.make_node(op, inputs, [label], name=label)
        for key, value in attributes.items():
            node.attribute.append(onnx.helper.make_attribute(key, value))
        nodes.append(node)
        return label

    before, behind = (
        [constants[part]] if part in constants else [] for part in ("keep", "keep_behind")
    )
    if opset >= _SHAPE_START_OPSET:
        end = {"end": start + 2} if behind else {}
        sides = make("Shape", "sides", tensor, start=start, **end)
    else:
        axes = constants["axes"]
        sides = make("Gather", "sides", make("Shape", "shape", tensor), axes, axis=0)
    lengths = _by_maxima if opset >= _INTEGER_MAX_OPSET else _by_division
    targets = [
        make("Concat", f"{part}_to", *before, length, *behind, axis=0)
        for part, length in lengths(make, name, sides, constants).items()
    ]
    for part, target in zip(_PARTS[-len(targets) :], targets, strict=True):
        tensor = make("Expand", part, tensor, target)
    return nodes


def _by_maxima(
    make: Callable[..., str], name: str, sides: str, constants: dict[str, str]
) -> dict[str, str]:
    """Emit the sides that each Expand of a guard has for its target."""
    size = constants["size"]
    if name == _MIN_SIZE:
        first = make("Max", "larger", sides, size)
    else:
        beyond = make("Sub", "beyond", make("Add", "doubled", sides, sides), size)
        if name == _MAX_SIZE:
            return {"checked": make("Max", "farther", sides, beyond)}
        first = make("Max", "larger", size, beyond)
    mirrored = make("Sub", "mirrored", constants["twice"], sides)
    return {"expanded": first, "checked": make("Max", "farther", sides, mirrored)}


def _by_division(
    make: Callable[..., str], name: str, sides: str, constants: dict[str, str]
) -> dict[str, str]:
    """Emit the same without Max."""

    def reaches(part: str, distance: str) -> str:
        """Make 1 for a side that is `_FAR` with its distance, else 0."""
        return make("Div", part, make("Add", f"{part}_sum", sides, distance), constants["far"])

    illegal = []
    if name != _MAX_SIZE:
        is_enough = reaches("enough", constants["to_least"])
        illegal.append(make("Sub", "less", constants["one"], is_enough))
    if name != _MIN_SIZE:
        illegal.append(reaches("more", constants["to_most"]))
    bad = make("Add", "illegal", *illegal) if len(illegal) > 1 else illegal[0]
    found = {}
    for part in _PARTS[1:] if name == _MAX_SIZE else _PARTS:
        sides = found[part] = make("Add", f"{part}_sides", sides, bad)
    return found


def is_guard(node: onnx.NodeProto) -> bool:
    """Say whether a node is an Expand of a guard, which changes nothing at a legal size."""
    return node.op_type == "Expand" and node.output[0] in {
        f"{name}_{part}" for name in _NAMES.values() for part in ("expanded", "checked")
    }


def unguarded(graph: Graph, tensor: str) -> str:
    """Return the tensor that a guard was put behind, or `tensor` itself where it has none."""
    index = graph.producer(tensor)
    while index is not None and is_guard(graph.node(index)):
        tensor = graph.node(index).input[0]
        index = graph.producer(tensor)
    return tensor


def guarded_image(graph: Graph) -> str:
    """Return the tensor that is the image behind its guards.

    Raises:
        UnsupportedModelError: The graph has no image input.
    """
    tensor = image_input(graph.model).name
    behind = {node.input[0]: node.output[0] for node in graph.nodes if is_guard(node)}
    while tensor in behind:
        tensor = behind[tensor]
    return tensor
