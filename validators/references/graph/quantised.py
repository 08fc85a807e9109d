"""Graphs quantised to 8 bits, written with QuantizeLinear and DequantizeLinear (QDQ).

Such a graph means what its operators say, which float64 computes. Two things move its answers:

- A number in the middle of two steps goes to one or the other by the rounding of the layer before
  it. Two right runtimes differ there, by whole steps. `either_way` lets all numbers so near to the
  middle go either way, as a coin falls.
- Each rounding loses up to half a step, and a number beyond the range all that it is beyond it. So
  far is a right quantisation from the graph that it was made of. `dithered` adds as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from anysize.surgery.graph import Graph

__all__ = ["dithered", "either_way", "image_range", "is_quantised"]

_QUANTISE, _DEQUANTISE = "QuantizeLinear", "DequantizeLinear"
# Operators that compute in whole numbers themselves: what they mean is no QDQ graph.
_WHOLE: Final = ("QLinear", "ConvInteger", "MatMulInteger", "QGemm", "DynamicQuantizeLinear")
# Four float32 steps of the largest number are what a right runtime's layer may be off by.
_NEAR: Final = float(4 * np.finfo(np.float32).eps)
_MOVED: Final = frozenset({"Expand", "Identity", "Reshape", "Slice", "Squeeze", "Transpose"})
_FLOAT: Final = onnx.TensorProto.FLOAT


def is_quantised(model: onnx.ModelProto) -> bool:
    """Whether a graph rounds what it computes to few bits, and goes on with floats.

    One whose weights alone are stored so computes with floats: its weights are other constants.
    """
    nodes = model.graph.node
    made = {name for node in nodes for name in node.output}
    made |= {value.name for value in model.graph.input}
    made -= {tensor.name for tensor in model.graph.initializer}
    is_rounded = any(node.op_type == _QUANTISE and node.input[0] in made for node in nodes)
    return is_rounded and not any(node.op_type.startswith(_WHOLE) for node in nodes)


def image_range(model: onnx.ModelProto, image: str) -> tuple[float, float] | None:
    """Return the least and largest pixel that the first rounding of an image can tell apart.

    None where something else is computed of the image first, or the numbers are not in the file.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    known = _constants(model)
    for node in model.graph.node:
        if node.op_type != _QUANTISE:
            continue
        name = node.input[0]
        while name in makers and makers[name].op_type in _MOVED:
            name = makers[name].input[0]
        found = _range(node, known) if name == image else None
        if found is not None and found[0] < found[1] < np.inf:
            return found
    return None


def either_way(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Yield a QuantizeLinear whose numbers may be rounded the other way, and what makes it so.

    Args:
        node: Reads float32; changed in place.
    """
    read, prefix = node.input[0], f"{node.output[0]}/anysize"
    size, largest, sign, coin, near, noise, moved = (
        f"{prefix}_{part}" for part in ("size", "largest", "sign", "coin", "near", "noise", "moved")
    )
    yield helper.make_node("Abs", [read], [size])
    yield helper.make_node("ReduceMax", [size], [largest], keepdims=0)
    yield _drawn(read, coin, 1.0)
    yield helper.make_node("Sign", [coin], [sign])
    yield _constant(near, np.asarray(_NEAR, np.float32))
    yield helper.make_node("Mul", [largest, near], [f"{near}_most"])
    yield helper.make_node("Mul", [sign, f"{near}_most"], [noise])
    yield helper.make_node("Add", [read, noise], [moved])
    node.input[0] = moved
    yield node


def dithered(graph: Graph) -> onnx.ModelProto:
    """Copy a quantised graph, with as much noise behind each rounding as the rounding loses.

    Each dequantised number is moved by up to half a step either way, and one beyond the range by up
    to all that it is beyond it. Every run draws anew.

    Args:
        graph: Not modified; weights that are elsewhere stay there.
    """
    from anysize.surgery import keep_outputs

    model = keep_outputs(graph, [output.name for output in graph.model.graph.output])
    nodes, known = list(model.graph.node), _constants(model)
    makers = {name: node for node in nodes for name in node.output}
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    del model.graph.node[:]
    for node in nodes:
        is_rounding = node.op_type == _DEQUANTISE
        maker = makers.get(node.input[0]) if is_rounding else None
        kind = kinds.get(node.input[0]) or _quantised_type(maker, kinds)
        if not is_rounding or not kind:
            model.graph.node.append(node)
            continue
        model.graph.node.extend(_with_loss(node, maker, kind, known))
    return model


def _with_loss(
    node: onnx.NodeProto,
    maker: onnx.NodeProto | None,
    kind: int,
    known: dict[str, np.ndarray[Any, Any]],
) -> Iterator[onnx.NodeProto]:
    """Yield a DequantizeLinear, whose result gets another name, and what adds noise to it."""
    result = node.output[0]
    exact, coin, loss = (f"{result}/anysize_{part}" for part in ("exact", "coin", "loss"))
    node.output[0] = exact
    yield node
    yield from _steps(node, node.input[0], kind, f"{result}/anysize_step")
    widths = [f"{result}/anysize_step"]
    if maker is not None and maker.op_type == _QUANTISE:
        yield from _beyond(maker, kind, known, f"{result}/anysize_beyond")
        widths.append(f"{result}/anysize_beyond")
    yield helper.make_node("Sum", widths, [f"{result}/anysize_width"])
    yield _drawn(exact, coin, 0.5)
    yield helper.make_node("Mul", [coin, f"{result}/anysize_width"], [loss])
    yield helper.make_node("Add", [exact, loss], [result])


def _steps(node: onnx.NodeProto, numbers: str, kind: int, name: str) -> Iterator[onnx.NodeProto]:
    """Yield what computes one step for each number: ones, dequantised by the node's own scales."""
    one = helper.make_tensor("one", kind, [1], [1])
    yield helper.make_node("Shape", [numbers], [f"{name}_shape"])
    yield helper.make_node("ConstantOfShape", [f"{name}_shape"], [f"{name}_ones"], value=one)
    yield _dequantising(node, [f"{name}_ones", node.input[1]], name)


def _beyond(
    maker: onnx.NodeProto, kind: int, known: dict[str, np.ndarray[Any, Any]], name: str
) -> Iterator[onnx.NodeProto]:
    """Yield what computes twice the distance of each number from the range of its QuantizeLinear.

    A range that begins at 0 cuts off what is negative, as a Relu does that was left out for it.
    """
    read, numbers = maker.input[0], maker.output[0]
    limits = _range(maker, known)
    if limits is not None and limits[0] == 0.0:
        yield helper.make_node("Relu", [read], [f"{name}_read"])
        read = f"{name}_read"
    yield _dequantising(maker, [numbers, *maker.input[1:]], f"{name}_back")
    yield from _steps(maker, numbers, kind, f"{name}_step")
    yield helper.make_node("Sub", [read, f"{name}_back"], [f"{name}_off"])
    yield helper.make_node("Abs", [f"{name}_off"], [f"{name}_far"])
    yield helper.make_node("Sum", [f"{name}_far", f"{name}_far"], [f"{name}_twice"])
    yield helper.make_node("Sub", [f"{name}_twice", f"{name}_step"], [f"{name}_more"])
    yield helper.make_node("Relu", [f"{name}_more"], [name])


def _dequantising(node: onnx.NodeProto, reads: Sequence[str], name: str) -> onnx.NodeProto:
    """Make a DequantizeLinear by the axis and the blocks of a node."""
    made = helper.make_node(_DEQUANTISE, list(reads), [name])
    made.attribute.extend(one for one in node.attribute if one.name in ("axis", "block_size"))
    return made


def _drawn(like: str, name: str, most: float) -> onnx.NodeProto:
    """Make a node that draws numbers up to `most` either way; ONNX Runtime seeds it by its name."""
    seed = float(sum(map(ord, name)))
    return helper.make_node(
        "RandomUniformLike", [like], [name], dtype=_FLOAT, low=-most, high=most, seed=seed
    )


def _constant(name: str, value: np.ndarray[Any, Any]) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def _quantised_type(maker: onnx.NodeProto | None, kinds: dict[str, int]) -> int:
    """Return the type that a QuantizeLinear rounds to; 0 where something else made the numbers."""
    if maker is None or maker.op_type != _QUANTISE:
        return 0
    _, _, zero = (*maker.input, "")[:3]
    return kinds.get(zero, onnx.TensorProto.UINT8)


def _range(
    node: onnx.NodeProto, known: dict[str, np.ndarray[Any, Any]]
) -> tuple[float, float] | None:
    """Return what a QuantizeLinear with one scale can tell apart."""
    numbers = [known.get(name) for name in node.input[1:] if name]
    if any(one is None or one.size != 1 for one in numbers):
        return None
    scale = float(numbers[0].item())  # type: ignore[union-attr]
    zero = numbers[1] if len(numbers) > 1 else np.zeros(1, np.uint8)
    assert zero is not None
    if not np.issubdtype(zero.dtype, np.integer):
        return None  # float8
    limits, point = np.iinfo(zero.dtype), int(zero.item())
    return (limits.min - point) * scale, (limits.max - point) * scale


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    """Read the scales and zero points that are one number."""
    from anysize.surgery.storage import is_loaded

    few = (t for t in model.graph.initializer if np.prod(t.dims, dtype=np.int64) == 1)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in few if is_loaded(tensor)}
