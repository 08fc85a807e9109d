"""Gemm and MatMul in every spelling → Linear."""

from __future__ import annotations

from dataclasses import dataclass, replace

from anysize.surgery.graph import Graph, attribute
from anysize.surgery.heads.constants import Constant, find_constant, is_constant
from anysize.surgery.heads.layers import Linear, declined
from anysize.surgery.heads.layout import Layout
from anysize.surgery.heads.readers.alignment import per_feature
from anysize.surgery.heads.readers.context import ReadContext

__all__ = ["data_of_linear", "read_linear"]


@dataclass(frozen=True, slots=True)
class _Product:
    """A matrix product with one constant factor.

    Attributes:
        data: The other factor.
        layout: How its weight lies, transposed where the operator does that.
        axis: The axis of it that is summed over.
        weight: The constant, seen as `(out_features, in_features)`.
        is_left: Whether the constant stands on the left.
    """

    data: str
    layout: Layout
    axis: int
    weight: Constant
    is_left: bool


def read_linear(context: ReadContext, index: int) -> Linear | None:
    """Read a Gemm, or a MatMul with the Add behind it."""
    node = context.graph.node(index)
    if node.op_type == "Gemm":
        return _gemm(context, index)
    return _matmul(context, index) if node.op_type == "MatMul" else None


def data_of_linear(graph: Graph, index: int) -> str:
    """Return the factor of a matrix product that depends on the image.

    Raises:
        DeclinedError: Not exactly one factor is constant.
    """
    node = graph.node(index)
    left, right = (is_constant(graph, name) for name in node.input[:2])
    if left == right:
        if left:
            raise declined(graph, index, "multiplies two constants, expected the image's features")
        raise declined(graph, index, f"weight {node.input[1]!r} is computed, expected a constant")
    return str(node.input[1] if left else node.input[0])


def _gemm(context: ReadContext, index: int) -> Linear:
    graph, node = context.graph, context.graph.node(index)
    product = _product(context, index)
    layout, weight = _contracted(context, index, product)
    bias = None
    beta = float(attribute(node, "beta", 1.0))  # type: ignore[arg-type]
    if len(node.input) > 2 and node.input[2] and beta != 0.0:
        found = find_constant(graph, node.input[2])
        if found is None:
            raise declined(graph, index, f"bias {node.input[2]!r} is computed, expected a constant")
        bias = per_feature(found, layout, (layout.channels,))
        if bias is None:
            raise declined(
                graph,
                index,
                f"bias has shape {list(found.dims)}, expected {layout.channels} elements, one a "
                "unit",
            )
    return Linear(
        nodes=(index,),
        label=graph.label(index),
        data=product.data,
        output=node.output[0],
        layout=layout,
        weight=weight,
        bias=bias,
        alpha=float(attribute(node, "alpha", 1.0)),  # type: ignore[arg-type]
        beta=beta,
    )


def _matmul(context: ReadContext, index: int) -> Linear:
    graph, node = context.graph, context.graph.node(index)
    product = _product(context, index)
    layout, weight = _contracted(context, index, product)
    linear = Linear(
        nodes=(index,),
        label=graph.label(index),
        data=product.data,
        output=node.output[0],
        layout=layout,
        weight=weight,
    )
    return _with_bias(graph, linear)


def _with_bias(graph: Graph, linear: Linear) -> Linear:
    """Take in an Add of a bias on either side, where nothing else reads the product."""
    readers = graph.consumers(linear.output)
    if len(readers) != 1 or graph.is_graph_output(linear.output):
        return linear
    after = graph.node(readers[0])
    others = [name for name in after.input if name != linear.output]
    if after.op_type != "Add" or len(others) != 1 or after.domain not in ("", "ai.onnx"):
        return linear
    found, layout = find_constant(graph, others[0]), linear.layout
    start = attribute(after, "axis")  # before opset 7
    bias = found and per_feature(
        found, layout, (layout.channels,), start if isinstance(start, int) else None
    )
    if bias is None:
        return linear
    return replace(linear, nodes=(*linear.nodes, readers[0]), output=after.output[0], bias=bias)


def _product(context: ReadContext, index: int) -> _Product:
    graph, node = context.graph, context.graph.node(index)
    data = data_of_linear(graph, index)
    is_left = data == node.input[1]
    name = node.input[0] if is_left else node.input[1]
    weight, layout = find_constant(graph, name), context.layouts[data]
    dims = () if weight is None else weight.dims
    while len(dims) > 2 and dims[0] == 1:
        dims = dims[1:]
    if weight is None or len(dims) != 2 or len(layout.axes) < 2:
        shape = "no matrix" if weight is None else f"of shape {list(weight.dims)}"
        raise declined(graph, index, f"weight {name!r} is {shape}, expected a matrix")
    weight = weight.viewed(dims, (0, 1))
    is_gemm = node.op_type == "Gemm"
    turns_left = is_gemm and bool(attribute(node, "transA", 0))
    turns_right = is_gemm and bool(attribute(node, "transB", 0))
    if turns_right if is_left else turns_left:
        layout = replace(layout, axes=layout.axes[::-1])
    is_stored_output_first = not turns_left if is_left else turns_right
    if not is_stored_output_first:
        weight = weight.viewed(dims, (1, 0))
    axis = len(layout.axes) - (2 if is_left else 1)
    if is_left and len(layout.axes) != 2:
        raise declined(graph, index, "multiplies a stack of matrices from the left, expected one")
    return _Product(data, layout, axis, weight, is_left)


def _contracted(context: ReadContext, index: int, product: _Product) -> tuple[Layout, Constant]:
    """Return the layout of the product, and the weight seen as a convolution's."""
    graph, layout = context.graph, product.layout
    letters = layout.axes[product.axis]
    rest = "".join(a for i, a in enumerate(layout.axes) if i != product.axis)
    out_features, in_features = product.weight.dims
    if "C" not in letters or "N" in letters or not (set("HW") & set(rest)) <= _left(letters):
        raise declined(
            graph,
            index,
            f"sums over axis {product.axis} of {_text(layout)}, expected all features of an image",
        )
    if layout.channels and layout.count(letters) != in_features:
        raise declined(
            graph, index, f"weight has {in_features} inputs, expected {layout.count(letters)}"
        )
    if not layout.channels:
        layout = replace(layout, channels=in_features)
    sides = tuple(layout.count(letter) for letter in letters)
    order = [1 + letters.index(letter) for letter in "CHW" if letter in letters]
    weight = product.weight.viewed((out_features, *sides), (0, *order))
    kernel = (*weight.dims, 1, 1)[:4]
    weight = weight.viewed(kernel, (0, 1, 2, 3))
    if any(axis not in (None, 0) for axis in weight.scale_axes):
        raise declined(
            graph,
            index,
            "weight is quantised with scales along its inputs, expected one for all or one a unit",
        )
    axes = list(layout.axes)
    axes[product.axis] = "C"
    spatial = {} if set("HW") & set(rest) else {"height": 1, "width": 1}
    return replace(layout, axes=tuple(axes), channels=out_features, **spatial), weight


def _left(letters: str) -> set[str]:
    """Return the letters that may lie on other axes: all of the map's sides, or none."""
    return set() if set("HW") & set(letters) else set("HW")


def _text(layout: Layout) -> str:
    names = [("×".join(letters) or "1") for letters in layout.axes]
    return f"({', '.join(names)})"
