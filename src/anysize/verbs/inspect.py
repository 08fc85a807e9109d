"""Tell what head an ONNX file has, which sizes it takes, and what could be done about it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.errors import DeclinedError, UnsupportedModelError
from anysize.sizes import Size, SizeRange

if TYPE_CHECKING:
    import onnx

__all__ = ["HeadFacts", "Inspection", "SizeFacts", "inspect"]


@dataclass(frozen=True, slots=True)
class HeadFacts:
    """A fully connected head.

    Attributes:
        feature_map: Name of the tensor that it flattens.
        channels: Of that map.
        map_size: Its height and width at the training size.
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
        size: Of the image.
        is_legal: Whether the graph takes it.
        outputs: Shape of every output for one image; empty where the size is illegal.
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
        opset: Of the standard operators.
        input: Name and shape of the image input, symbols as they stand in the file.
        outputs: Name and shape of every output.
        nodes: Number of nodes.
        weights: Numbers in all initializers.
        training_size: The size that the file was made for; None where nothing tells.
        head: Its FC head; None where it has none.
        no_head: Why it has none, or why it was not recognised.
        legal: The sizes that it takes; None where they cannot be worked out.
        sizes: The sizes that were asked about.
    """

    path: Path
    opset: int
    input: str
    outputs: tuple[str, ...]
    nodes: int
    weights: int
    training_size: Size | None
    head: HeadFacts | None
    no_head: str
    legal: SizeRange | None
    sizes: tuple[SizeFacts, ...]

    def to_json(self) -> str:
        """Return the facts as JSON, sizes as HEIGHTxWIDTH."""

        def write(value: object) -> object:
            if isinstance(value, (Size, Path)):
                return str(value)
            if isinstance(value, SizeRange):
                return {"minimum": write(value.minimum), "maximum": write(value.maximum)}
            if dataclasses.is_dataclass(value):
                fields = dataclasses.fields(value)
                return {field.name: write(getattr(value, field.name)) for field in fields}
            return [write(entry) for entry in value] if isinstance(value, tuple) else value

        return json.dumps(write(self), indent=2, sort_keys=True)

    def to_text(self) -> str:
        """Return the facts for a terminal."""
        lines = [
            str(self.path),
            f"  opset {self.opset}, {self.nodes} nodes, {self.weights:,} weights",
            f"  input   {self.input}",
            *(f"  output  {output}" for output in self.outputs),
            f"  trained at {self.training_size or 'a size that the file does not tell'}",
        ]
        if self.head is None:
            lines.append(f"  head    {self.no_head}")
        else:
            head = self.head
            share = head.weights / self.weights if self.weights else 0.0
            lines.append(
                f"  head    fc over {head.feature_map!r}, {head.channels}×{head.map_size} = "
                f"{head.inputs} inputs; {head.weights:,} weights, {share:.1%} of all"
            )
        lines.append(f"  sizes   {self.legal or 'not known'}")
        if self.head is not None:
            lines.append(f"  for any size: anysize rewrite {self.path} -o any.onnx --to fcn")
        for facts in self.sizes:
            shapes = ", ".join("×".join(map(str, shape)) for shape in facts.outputs)
            lines.append(f"  {facts.size}: {shapes if facts.is_legal else facts.reason}")
        return "\n".join(lines)


def inspect(model: Path | str, sizes: Sequence[Size] = ()) -> Inspection:
    """Read an ONNX file and work out its head and its sizes; nothing is run, no weight is read.

    Args:
        model: The file.
        sizes: Image sizes to try.

    Raises:
        AnysizeError: A subclass says what cannot be used.
    """
    from anysize import surgery
    from anysize.surgery.graph import opset_version

    path = Path(model)
    graph = surgery.load_model(path)
    training = surgery.trained_size(graph)
    head, why = _head(graph, training or (sizes[0] if sizes else None))
    image = surgery.image_input(graph)
    return Inspection(
        path=path,
        opset=opset_version(graph),
        input=_describe(image),
        outputs=tuple(_describe(output) for output in graph.graph.output),
        nodes=len(graph.graph.node),
        weights=sum(_count(tensor.dims) for tensor in graph.graph.initializer),
        training_size=training,
        head=head,
        no_head=why,
        legal=_legal(graph, head, training),
        sizes=tuple(_try_size(graph, size) for size in sizes),
    )


def _head(graph: onnx.ModelProto, size: Size | None) -> tuple[HeadFacts | None, str]:
    from anysize.surgery import find_head

    try:
        head = find_head(graph, size)
    except DeclinedError as error:
        return None, str(error)
    dims = {tensor.name: tensor.dims for tensor in graph.graph.initializer}
    behind = {
        name
        for layer in head.layers
        for index in layer.nodes
        for name in graph.graph.node[index].input
        if name in dims
    }
    facts = HeadFacts(
        feature_map=head.feature_map,
        channels=head.channels,
        map_size=head.map_size,
        inputs=head.channels * head.map_size.area,
        weights=sum(_count(dims[name]) for name in behind),
    )
    return facts, ""


def _legal(
    graph: onnx.ModelProto, head: HeadFacts | None, training: Size | None
) -> SizeRange | None:
    from anysize import surgery

    static = surgery.static_size(graph)
    if static is not None:
        return SizeRange(static, static)
    try:
        if head is not None and training is not None:
            return surgery.legal_interval(graph, head.feature_map, training)
        return SizeRange(surgery.smallest_size(graph))
    except UnsupportedModelError:
        return None


def _try_size(graph: onnx.ModelProto, size: Size) -> SizeFacts:
    from anysize import surgery

    static = surgery.static_size(graph)
    if static is not None and static != size:
        return SizeFacts(size, is_legal=False, outputs=(), reason=f"the file declares {static}")
    try:
        shapes = surgery.infer_shapes(graph, size)
    except UnsupportedModelError as error:
        return SizeFacts(size, is_legal=False, outputs=(), reason=str(error))
    names = [output.name for output in graph.graph.output]
    return SizeFacts(size, is_legal=True, outputs=tuple(shapes.get(name, ()) for name in names))


def _describe(value: onnx.ValueInfoProto) -> str:
    dims = value.type.tensor_type.shape.dim
    shape = ", ".join(dim.dim_param or str(dim.dim_value) for dim in dims)
    return f"{value.name} ({shape})"


def _count(dims: Sequence[int]) -> int:
    count = 1
    for dim in dims:
        count *= dim
    return count
