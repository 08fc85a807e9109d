"""What is known about an ONNX file without running it, as text and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anysize.as_json import as_json
from anysize.sizes import Size, SizeRange
from anysize.verbs.costs import LayerFacts, PartCost
from anysize.verbs.next_heads import NextHead
from anysize.words import shortened

__all__ = ["HeadFacts", "Inspection", "SizeFacts"]

_MOST_LETTERS = 60
_WHY = "FC weights fit one number of inputs; another image size makes another"


@dataclass(frozen=True, slots=True)
class HeadFacts:
    """A fully connected head.

    Attributes:
        feature_map: Name of the tensor that it flattens.
        channels: Channels of that map.
        map_size: Height and width of that map at the training size.
        inputs: Numbers that the first FC layer takes, channels × height × width.
        weights: Numbers in the layers of the head.
    """

    feature_map: str
    channels: int
    map_size: Size
    inputs: int
    weights: int


@dataclass(frozen=True, slots=True)
class SizeFacts:
    """What a graph does with one image size.

    Attributes:
        size: The image size.
        is_legal: Whether the graph takes it.
        outputs: Shape of every output for one image; empty where the size is illegal, and one
            that cannot be worked out is empty, too.
        reason: Why it does not.
    """

    size: Size
    is_legal: bool
    outputs: tuple[tuple[int, ...], ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known about an ONNX file without running it.

    Attributes:
        path: The file.
        opset: The opset of the standard operators.
        input: Name and shape of the image input, symbols as they stand in the file; and where its
            channels are, unless in axis 1.
        outputs: Name and shape of every output.
        nodes: Number of nodes.
        weights: Numbers in all floating-point constants.
        model: The model that the file says it is; None where it says nothing.
        recorded_head: The head that the file says it has; None where it says nothing.
        training_size: The size that the file was made for; None where nothing tells.
        head: The FC head, the first of several; None where it has none.
        no_head: Why it has none, or why it was not recognised.
        legal: The sizes that it takes; None where they cannot be worked out.
        sizes: The sizes that were asked about.
        advice: Command lines that go on from here.
        further_heads: FC heads on other feature maps.
        further_inputs: Name and shape of every input beside the image.
        heads: The heads that it can get on the weights that it has, and what each means.
        costs: Multiply-adds and activation memory of its parts, at each size asked about that it
            takes; at the training size where none was.
        layers: Every node, at the first of these sizes, where that was asked for.
        preprocessing: What the file says of how images are prepared for it; "" where it does not.
        class_names: What it says that its classes are called.
    """

    path: Path
    opset: int
    input: str
    outputs: tuple[str, ...]
    nodes: int
    weights: int
    model: str | None
    recorded_head: str | None
    training_size: Size | None
    head: HeadFacts | None
    no_head: str
    legal: SizeRange | None
    sizes: tuple[SizeFacts, ...]
    advice: tuple[str, ...]
    further_heads: tuple[HeadFacts, ...] = ()
    further_inputs: tuple[str, ...] = ()
    heads: tuple[NextHead, ...] = ()
    costs: tuple[PartCost, ...] = ()
    layers: tuple[LayerFacts, ...] = ()
    preprocessing: str = ""
    class_names: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the facts as JSON, sizes as HEIGHTxWIDTH."""
        return as_json(self)

    def to_text(self) -> str:
        """Return the facts for a terminal."""
        recorded = ", ".join(
            f"{what} {value}"
            for what, value in (("model", self.model), ("head", self.recorded_head))
            if value
        )
        lines = [
            str(self.path),
            f"  opset {self.opset}, {self.nodes} nodes, {self.weights:,} weights",
            *([f"  says    {recorded}"] if recorded else []),
            *([f"  images  {self.preprocessing}"] if self.preprocessing else []),
            *([f"  classes {_listed(self.class_names)}"] if self.class_names else []),
            *(f"  input   {line}" for line in (self.input, *self.further_inputs)),
            *(f"  output  {output}" for output in self.outputs),
            f"  trained at {self.training_size or 'a size that the file does not tell'}",
            *(f"  head    {line}" for line in self._describe_heads()),
            *([f"  why     {_WHY}"] if self.head else []),
            f"  sizes   {self.legal or 'not known'}",
        ]
        for facts in self.sizes:
            shapes = ", ".join("×".join(map(str, shape)) or "?" for shape in facts.outputs)
            lines.append(f"  {facts.size}: {shapes if facts.is_legal else facts.reason}")
        lines += [
            f"  cost    {cost.size} {cost.part}: {cost.multiply_adds / 1e6:,.1f} million "
            f"multiply-adds, {cost.activation_bytes / 2**20:,.1f} MiB of activations"
            for cost in self.costs
        ]
        lines += [f"  layer   {_layer(layer)}" for layer in self.layers]
        for head in self.heads:
            lines += [
                f"  can be  {head.head}: {head.meaning}",
                f"            sizes {head.sizes}; {', '.join(head.outputs)}",
                f"            {head.command}",
            ]
        lines += [f"  next    {command}" for command in self.advice]
        return "\n".join(lines)

    def _describe_heads(self) -> tuple[str, ...]:
        if self.head is None:
            return (self.no_head,)
        return tuple(
            f"fc over {head.feature_map!r}, {head.channels}×{head.map_size.height}×"
            f"{head.map_size.width} = {head.inputs:,} inputs; {head.weights:,} weights, "
            f"{head.weights / self.weights if self.weights else 0.0:.1%} of all"
            for head in (self.head, *self.further_heads)
        )


def _layer(layer: LayerFacts) -> str:
    shape = "×".join(map(str, layer.output)) or "?"
    return (
        f"{layer.operator:<20} {shape:<18} {layer.weights:>12,} {layer.multiply_adds:>15,}  "
        f"{layer.name}"
    )


def _listed(names: tuple[str, ...]) -> str:
    return f"{len(names)}: {shortened(', '.join(names), _MOST_LETTERS)}"
