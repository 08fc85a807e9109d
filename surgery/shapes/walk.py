"""The shape of every tensor at a given image size, without touching a weight.

A walk over the nodes with PyTorch's arithmetic for windows (`rules`), shape arithmetic
evaluated (`folding`), and onnx's own inference for everything else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnx.numpy_helper

from anysize.errors import UnsupportedModelError
from anysize.sizes import Size
from anysize.surgery.graph import (
    Graph,
    Model,
    attribute,
    image_input,
    image_layout,
    inlined,
    opset_version,
    required_inputs,
)
from anysize.surgery.shapes.folding import NodeFolder
from anysize.surgery.shapes.rules import Shape, output_shape
from anysize.surgery.storage import small_array
from anysize.words import one_line

__all__ = [
    "IllegalSizeError",
    "OversizedError",
    "ShapeRun",
    "ShapeStep",
    "ShapeWalk",
    "infer_shapes",
    "shape_walk",
    "shapes_at",
]

# A layer's elements for one of the image's (VGG-16: 21), and whatever the image.
_MOST_FOR_ONE = 1024
_MOST_ANYWAY = 1 << 24


class IllegalSizeError(UnsupportedModelError):
    """The graph cannot take an image of this size; PyTorch would refuse it, too.

    Attributes:
        node: Name of the node that cannot take it.
        size: Height and width of the image.
    """

    def __init__(self, message: str, *, node: str, size: Size) -> None:
        super().__init__(message)
        self.node = node
        self.size = size


class OversizedError(IllegalSizeError):
    """A tensor would have more elements than any layer of a classifier."""


def infer_shapes(model: Model, size: Size, batch: int = 1) -> Mapping[str, Shape]:
    """Work out the shape of every tensor for images `(batch, channels, size.height, size.width)`.

    Args:
        model: Not modified; its weights are not read.
        size: Height and width of the image.
        batch: Number of images.

    Returns:
        Tensor name → shape. A tensor whose shape cannot be known without running is absent.

    Raises:
        IllegalSizeError: A window does not fit, or matrices or elements do not match.
        UnsupportedModelError: The graph has no image input.
    """
    return shapes_at(Graph.of(model), size, batch)


def shape_walk(graph: Graph, targets: Iterable[str] = ()) -> ShapeWalk:
    """Return the graph's walk to `targets`, prepared once; see `ShapeWalk`."""
    names = tuple(targets)
    return graph.found(("walk", names), lambda: ShapeWalk(graph, names))


def shapes_at(
    graph: Graph, size: Size, batch: int = 1, *, targets: Iterable[str] = ()
) -> Mapping[str, Shape]:
    """Return the shapes at an image size, walked to `targets` once; see `infer_shapes`."""
    names = tuple(targets)
    return graph.found(
        ("shapes", names, size, batch), lambda: shape_walk(graph, names).shapes(size, batch)
    )


class ShapeWalk:
    """The nodes that shapes depend on, prepared once and walked at many sizes.

    `shapes` is a whole walk. Whoever has to look on walks step by step: `start` a run for each
    size, and `advance` them over the `steps` in turn.

    Args:
        graph: Not modified.
        targets: Walk only what these tensors are computed from; everything where empty.

    Attributes:
        steps: The nodes, in topological order.
    """

    def __init__(self, graph: Graph, targets: Iterable[str] = ()) -> None:
        graph = inlined(graph)
        model = graph.model
        names = tuple(targets)
        wanted = set().union(*(graph.upstream(name) for name in names))
        self.steps = [
            ShapeStep(graph.label(index), node, opset_version(model))
            for index, node in enumerate(graph.nodes)
            if index in wanted or not names
        ]
        self._image = image_input(model)
        self._inputs = [value for value in required_inputs(model) if value != self._image]
        self._layout = image_layout(graph)
        self._opsets = list(model.opset_import)
        self._schemas: dict[tuple[str, str], onnx.defs.OpSchema | None] = {}
        self._types: dict[str, int] = {}
        self._shapes: dict[str, Shape] = {}
        self._values: dict[str, np.ndarray] = {}
        for value in model.graph.input:
            dims = value.type.tensor_type.shape.dim
            self._types[value.name] = value.type.tensor_type.elem_type
            if value.type.tensor_type.HasField("shape") and all(d.dim_value > 0 for d in dims):
                self._shapes[value.name] = tuple(d.dim_value for d in dims)
        for tensor in model.graph.initializer:
            self._add_constant(tensor.name, tensor)
        for step in self.steps:
            value = attribute(step.node, "value")
            if step.node.op_type == "Constant" and isinstance(value, onnx.TensorProto):
                self._add_constant(step.node.output[0], value)
        # A hostile file doubles a tensor thirty times and has whoever runs it out of memory.
        self._elements = sum(math.prod(shape) for shape in self._shapes.values())

    def _add_constant(self, name: str, tensor: onnx.TensorProto) -> None:
        self._types[name] = tensor.data_type
        self._shapes[name] = tuple(tensor.dims)
        array = small_array(tensor)
        if array is not None:
            self._values[name] = array

    def shapes(self, size: Size, batch: int = 1) -> dict[str, Shape]:
        """Return the shapes at one image size; see `infer_shapes`."""
        return self.run(size, batch, is_to_be_run=True).shapes

    def run(self, size: Size, batch: int = 1, *, is_to_be_run: bool = False) -> ShapeRun:
        """Walk to the end, and return all that is known; see `infer_shapes`.

        Args:
            size: Height and width of the image.
            batch: Number of images.
            is_to_be_run: Whether a graph that asks for more memory than a classifier is refused,
                and not only looked at.
        """
        run = self.start(size, batch)
        if is_to_be_run:
            run.most_elements = _MOST_FOR_ONE * math.prod(run.shapes[self._image.name])
            run.most_elements += self._elements + _MOST_ANYWAY
        for step in self.steps:
            self.advance(step, run)
        return run

    def start(self, size: Size, batch: int = 1) -> ShapeRun:
        """Begin a walk, at which only the inputs and the constants are known.

        Raises:
            UnsupportedModelError: The image's channels are not declared.
        """
        run = ShapeRun(dict(self._types), dict(self._shapes), dict(self._values), size)
        axis = self._layout.channels
        channels = self._image.type.tensor_type.shape.dim[axis].dim_value
        if channels < 1:
            raise UnsupportedModelError(
                f"input {self._image.name!r}: channels are not declared; "
                f"expected a number in axis {axis}"
            )
        run.shapes[self._image.name] = self._layout.shape(batch, channels, size)
        for value in self._inputs:
            shape = self._beside(value, batch, size)
            if shape is not None:
                run.shapes[value.name] = shape
        return run

    def _beside(self, value: onnx.ValueInfoProto, batch: int, size: Size) -> Shape | None:
        """Return the shape of an input that shares axes with the image; None where one is open."""
        lengths = {"batch": batch, "height": size.height, "width": size.width}
        image = self._layout.shape(batch, 0, size)
        for dim, length in zip(self._image.type.tensor_type.shape.dim, image, strict=True):
            lengths |= {dim.dim_param: length} if dim.dim_param else {}
        dims = value.type.tensor_type.shape.dim
        shape = [lengths.get(dim.dim_param, dim.dim_value) for dim in dims]
        return tuple(shape) if all(shape) else None

    def advance(self, step: ShapeStep, run: ShapeRun) -> None:
        """Work out what a node makes.

        Raises:
            IllegalSizeError: The node does not take what it gets.
        """
        node = step.node
        if not node.output or all(name in run.values for name in node.output):
            return
        if node.op_type in ("Shape", "Size") and node.input[0] in run.shapes:
            run.set_value(node.output[0], _measured(node, run.shapes[node.input[0]]))
            return
        folded = step.folder.fold([run.values.get(name) for name in node.input])
        if folded is not None:
            for name, value in zip(node.output, folded, strict=False):
                run.set_value(name, value)
            return
        shape = None
        if node.domain in ("", "ai.onnx"):
            shape = self._own_rule(step, run)
        if shape is not None:
            run.types[node.output[0]] = _element_type(node, run)
            self.record(step, node.output[0], shape, run)
            if len(node.output) == 1:
                return
        self._ask_onnx(step, run)

    def _own_rule(self, step: ShapeStep, run: ShapeRun) -> Shape | None:
        """Return the shape of a node's first output by our own rule, where there is one."""
        shapes = tuple(run.shapes.get(name) for name in step.node.input)
        values = [run.values.get(name) for name in step.node.input]
        # Deep maps are alike at many sizes, so what does not depend on computed values is kept.
        constants = [self._values.get(name) for name in step.node.input]
        is_kept = all(one is other for one, other in zip(values, constants, strict=True))
        if is_kept and shapes in step.known:
            return step.known[shapes]
        try:
            shape = output_shape(step.node, shapes, values)
        except ValueError as exc:
            raise run.illegal(step, str(exc)) from exc
        if is_kept:
            step.known[shapes] = shape
        return shape

    def _ask_onnx(self, step: ShapeStep, run: ShapeRun) -> None:
        node = step.node
        schema = self._schema(node)
        has_inputs = all(name in run.types for name in node.input if name)
        has_subgraph = any(a.HasField("g") or a.graphs for a in node.attribute)
        if schema is None or not has_inputs or has_subgraph:
            return
        types = {name: run.type_of(name) for name in node.input if name}
        data = {
            name: onnx.numpy_helper.from_array(run.values[name], name)
            for name in node.input
            if name in run.values
        }
        try:
            results = onnx.shape_inference.infer_node_outputs(
                schema, node, types, data, opset_imports=self._opsets
            )
        except (
            onnx.checker.ValidationError,
            onnx.shape_inference.InferenceError,
            RuntimeError,
        ) as exc:
            raise run.illegal(step, one_line(exc)) from exc
        for name, result in results.items():
            tensor = result.tensor_type
            run.types.setdefault(name, tensor.elem_type)
            if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
                shape = tuple(d.dim_value for d in tensor.shape.dim)
                if name not in run.shapes:
                    self.record(step, name, shape, run)

    def record(self, step: ShapeStep, name: str, shape: Shape, run: ShapeRun) -> None:
        """Set the shape of what a node makes.

        Raises:
            IllegalSizeError: A side is empty, or there are more elements than a classifier has.
        """
        if any(side < 1 for side in shape):
            text = ", ".join(str(side) for side in shape)
            raise run.illegal(step, f"its output would be ({text}), expected every side ≥ 1")
        if math.prod(shape) > run.most_elements:
            text = "×".join(str(side) for side in shape)
            raise OversizedError(
                f"{step.label} cannot take an image of {run.size}: its output would have "
                f"{text[:80]} elements, more than any layer of a classifier",
                node=step.node.name,
                size=run.size,
            )
        run.shapes[name] = shape

    def _schema(self, node: onnx.NodeProto) -> onnx.defs.OpSchema | None:
        key = (node.domain, node.op_type)
        if key not in self._schemas:
            domain = "" if node.domain == "ai.onnx" else node.domain
            version = next(
                (o.version for o in self._opsets if o.domain in (domain, node.domain)), 1
            )
            try:
                self._schemas[key] = onnx.defs.get_schema(node.op_type, version, domain)
            except onnx.defs.SchemaError:
                self._schemas[key] = None
        return self._schemas[key]


class ShapeStep:
    """One node of a walk, with what is kept between sizes.

    Attributes:
        label: The node as messages name it.
        node: The node.
        folder: What evaluates it on known values.
        known: Shapes of its inputs → that of its first output, by our own rule.
    """

    def __init__(self, label: str, node: onnx.NodeProto, opset: int) -> None:
        self.label = label
        self.node = node
        self.folder = NodeFolder(node, opset)
        self.known: dict[tuple[Shape | None, ...], Shape | None] = {}


class ShapeRun:
    """What is known so far in one walk.

    Attributes:
        types: Tensor → element type.
        shapes: Tensor → shape.
        values: Tensor → value, of small constants and of what is computed from shapes.
        size: The image's.
    """

    def __init__(
        self,
        types: dict[str, int],
        shapes: dict[str, Shape],
        values: dict[str, np.ndarray],
        size: Size,
    ) -> None:
        self.types = types
        self.shapes = shapes
        self.values = values
        self.size = size
        self.most_elements: float = math.inf

    def set_value(self, name: str, value: np.ndarray) -> None:
        """Record a tensor whose value is known."""
        self.values[name] = value
        self.shapes[name] = value.shape
        self.types[name] = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)

    def type_of(self, name: str) -> onnx.TypeProto:
        """Return a tensor's type, with its shape where that is known."""
        return onnx.helper.make_tensor_type_proto(self.types[name], self.shapes.get(name))

    def illegal(self, step: ShapeStep, reason: str) -> IllegalSizeError:
        """Make the error for a node that cannot take what it gets."""
        return IllegalSizeError(
            f"{step.label} cannot take an image of {self.size}: {reason}",
            node=step.node.name,
            size=self.size,
        )


def _measured(node: onnx.NodeProto, shape: Shape) -> np.ndarray:
    if node.op_type == "Size":
        return np.array(np.prod(shape, dtype=np.int64), np.int64)
    start, end = attribute(node, "start", 0), attribute(node, "end")
    return np.array(shape, np.int64)[slice(start, end)]


def _element_type(node: onnx.NodeProto, run: ShapeRun) -> int:
    if node.op_type == "Cast":
        return int(attribute(node, "to", 1))  # type: ignore[call-overload,no-any-return]
    return run.types.get(node.input[0], int(onnx.TensorProto.FLOAT))
