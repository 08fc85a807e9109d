"""Canonical forms of the layers behind a flatten: what a node of a head is, however it was spelled.

Readers (`anysize.surgery.readers`) make them from nodes; rewrites work on them alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from anysize.errors import DeclinedError
from anysize.surgery.graph import GraphView
from anysize.surgery.layout import Layout
from anysize.surgery.weights import Constant

__all__ = [
    "Layer",
    "Linear",
    "Move",
    "Parameter",
    "Pointwise",
    "Reduction",
    "Selection",
    "Tail",
    "declined",
    "layout_of",
]


@dataclass(frozen=True, slots=True)
class Linear:
    """A fully connected layer: `output = alpha · input · weightᵀ + beta · bias`.

    Attributes:
        nodes: Its nodes, the one with the weight first.
        label: The first node's name, for messages.
        data: The input tensor.
        output: The output tensor.
        layout: Layout of the output.
        weight: The weight, seen as a convolution's: `(out_features, channels, height, width)`.
        bias: The bias, `out_features` or one element; None where there is none.
        alpha: Factor on the weight.
        beta: Factor on the bias.
    """

    nodes: tuple[int, ...]
    label: str
    data: str
    output: str
    layout: Layout
    weight: Constant
    bias: Constant | None = None
    alpha: float = 1.0
    beta: float = 1.0

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors that it reads and that depend on the image."""
        return (self.data,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Tensors that it makes."""
        return (self.output,)

    @property
    def out_features(self) -> int:
        """Number of units."""
        return self.weight.dims[0]

    @property
    def in_features(self) -> int:
        """Number of inputs of a unit."""
        return self.weight.elements // max(1, self.out_features)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A constant of a pointwise layer, one element a feature.

    Attributes:
        position: Which of the node's inputs it is.
        constant: The constant, seen as what broadcasts over a map: `(features, 1, 1)`.
    """

    position: int
    constant: Constant


@dataclass(frozen=True, slots=True)
class Pointwise:
    """A layer that treats every position alike.

    Attributes:
        node: Its node.
        label: The node's name, for messages.
        operator: The node's operator.
        inputs: The tensors it reads that depend on the image.
        output: Its output.
        layout: Layout of the output.
        parameters: Constants of one element for each feature.
    """

    node: int
    label: str
    operator: str
    inputs: tuple[str, ...]
    output: str
    layout: Layout
    parameters: tuple[Parameter, ...] = ()

    @property
    def nodes(self) -> tuple[int, ...]:
        """Its one node."""
        return (self.node,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Tensors that it makes."""
        return (self.output,)


@dataclass(frozen=True, slots=True)
class Move:
    """A node that moves axes about and changes no element, such as Flatten or Transpose.

    An Expand that what reads it would do by itself counts as one, too.

    Attributes:
        node: Its node.
        label: The node's name, for messages.
        data: The tensor it reads.
        output: Its output.
        before: Layout of what it reads.
        layout: Layout of the output.
    """

    node: int
    label: str
    data: str
    output: str
    before: Layout
    layout: Layout

    @property
    def nodes(self) -> tuple[int, ...]:
        """Its one node."""
        return (self.node,)

    @property
    def is_flatten(self) -> bool:
        """Whether Flatten(axis=1) does the same, for any batch."""
        axes = self.layout.axes
        is_ordered = "".join(self.before.axes) == "".join(axes)
        return is_ordered and len(axes) == 2 and axes[0] == self.before.axes[0] == "N"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensor it reads."""
        return (self.data,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Tensors that it makes."""
        return (self.output,)


@dataclass(frozen=True, slots=True)
class Tail:
    """A node over all features of an image: Softmax, ArgMax, TopK, a normalisation, or the like.

    Attributes:
        node: Its node.
        label: The node's name, for messages.
        data: The tensor it reads.
        outputs: Its outputs, "" for one that is left out.
        layout: Layout of the outputs.
        keeps_rank: Whether the outputs have an axis for the classes still.
        needs_rows: Whether its operator works on all axes from its own on: LayerNormalization,
            and Softmax before opset 13.
    """

    node: int
    label: str
    data: str
    outputs: tuple[str, ...]
    layout: Layout
    keeps_rank: bool = True
    needs_rows: bool = False

    @property
    def nodes(self) -> tuple[int, ...]:
        """Its one node."""
        return (self.node,)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensor it reads."""
        return (self.data,)


@dataclass(frozen=True, slots=True)
class Reduction:
    """A node that makes one number of all features of an image, such as their norm or their sum.

    Attributes:
        node: Its node.
        label: The node's name, for messages.
        data: The tensor it reads.
        output: Its output.
        layout: Layout of the output, which has one channel.
    """

    node: int
    label: str
    data: str
    output: str
    layout: Layout

    @property
    def nodes(self) -> tuple[int, ...]:
        """Its one node."""
        return (self.node,)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensor it reads."""
        return (self.data,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Tensors that it makes."""
        return (self.output,)


@dataclass(frozen=True, slots=True)
class Selection:
    """A node that takes some features of an image, or joins those of several tensors.

    Attributes:
        node: Its node.
        label: The node's name, for messages.
        inputs: The tensors it reads that depend on the image, in order.
        outputs: Its outputs.
        layouts: Layouts of the outputs.
    """

    node: int
    label: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layouts: tuple[Layout, ...]

    @property
    def nodes(self) -> tuple[int, ...]:
        """Its one node."""
        return (self.node,)

    @property
    def layout(self) -> Layout:
        """Layout of the first output."""
        return self.layouts[0]


Layer = Linear | Pointwise | Move | Reduction | Selection | Tail


def layout_of(layer: Layer, output: str) -> Layout:
    """Return the layout of one of a layer's outputs."""
    if isinstance(layer, Selection):
        return layer.layouts[layer.outputs.index(output)]
    return layer.layout


def declined(view: GraphView, index: int, reason: str) -> DeclinedError:
    """Make the error that says why node `index` cannot be rewritten."""
    node: onnx.NodeProto = view.node(index)
    return DeclinedError(f"{view.label(index)}: {reason}", node=node.name)
