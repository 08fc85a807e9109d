"""Canonical forms of the layers behind a flatten: what a node of a head is, however it was spelled.

Readers (`anysize.surgery.heads.readers`) make them from nodes; rewrites work on them alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx

from anysize.errors import DeclinedError
from anysize.surgery.graph import Graph
from anysize.surgery.heads.constants import Constant
from anysize.surgery.heads.layout import Layout

__all__ = [
    "AxisMove",
    "ClassOperator",
    "Layer",
    "Linear",
    "Parameter",
    "Pointwise",
    "Reduction",
    "Selection",
    "SingleNode",
    "declined",
]


@dataclass(frozen=True, slots=True)
class Linear:
    """A fully connected layer: `output = alpha · input · weightᵀ + beta · bias`.

    Attributes:
        nodes: The layer's nodes, the one with the weight first.
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

    def layout_of(self, _output: str) -> Layout:
        """Return the layout of its output."""
        return self.layout

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleNode:
    """A layer that is one node.

    Attributes:
        node: The node that makes it.
        label: The node's name, for messages.
        inputs: The tensors it reads that depend on the image, in order.
        outputs: Names of the node's outputs, "" for one that is left out.
        layout: Layout of the outputs, of the first one where they differ.
    """

    node: int
    label: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layout: Layout

    @property
    def nodes(self) -> tuple[int, ...]:
        """Its one node."""
        return (self.node,)

    @property
    def data(self) -> str:
        """The first tensor that it reads."""
        return self.inputs[0]

    @property
    def output(self) -> str:
        """Its first output."""
        return self.outputs[0]

    def layout_of(self, _output: str) -> Layout:
        """Return the layout of one of its outputs."""
        return self.layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointwise(SingleNode):
    """A layer that treats every position alike.

    Attributes:
        operator: The node's operator.
        parameters: Constants of one element for each feature.
    """

    operator: str
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisMove(SingleNode):
    """A node that moves axes about and changes no element, such as Flatten or Transpose.

    An Expand that what reads it would do by itself counts as one, too.

    Attributes:
        before: Layout of what it reads.
    """

    before: Layout

    @property
    def is_flatten(self) -> bool:
        """Whether Flatten(axis=1) does the same, for any batch."""
        axes = self.layout.axes
        is_ordered = "".join(self.before.axes) == "".join(axes)
        return is_ordered and len(axes) == 2 and axes[0] == self.before.axes[0] == "N"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassOperator(SingleNode):
    """A node over all features of an image: Softmax, ArgMax, TopK, a normalisation, or the like.

    Attributes:
        keeps_rank: Whether the outputs have an axis for the classes still.
        needs_rows: Whether its operator works on all axes from its own on: LayerNormalization,
            and Softmax before opset 13.
    """

    keeps_rank: bool = True
    needs_rows: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduction(SingleNode):
    """A node that makes one number of all features of an image, such as their norm or their sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection(SingleNode):
    """A node that takes some features of an image, or joins those of several tensors.

    Attributes:
        channels: How many features each output has.
    """

    channels: tuple[int, ...]

    def layout_of(self, output: str) -> Layout:
        """Return the layout of one of its outputs."""
        return replace(self.layout, channels=self.channels[self.outputs.index(output)])


Layer = Linear | Pointwise | AxisMove | Reduction | Selection | ClassOperator


def declined(graph: Graph, index: int, reason: str) -> DeclinedError:
    """Make the error that says why node `index` cannot be rewritten."""
    node: onnx.NodeProto = graph.node(index)
    return DeclinedError(f"{graph.label(index)}: {reason}", node=node.name)
