"""Tell what head an ONNX file has, which sizes it takes, and what could be done about it."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.errors import UnsupportedModelError
from anysize.sizes import Size, SizeRange

if TYPE_CHECKING:
    import onnx

    from anysize.surgery import FileMetadata, Head

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
        opset: Of the standard operators.
        input: Name and shape of the image input, symbols as they stand in the file.
        outputs: Name and shape of every output.
        nodes: Number of nodes.
        weights: Numbers in all floating-point constants.
        model: The model that the file says it is; None where it says nothing.
        recorded_head: The head that the file says it has; None where it says nothing.
        training_size: The size that the file was made for; None where nothing tells.
        head: Its FC head; None where it has none.
        no_head: Why it has none, or why it was not recognised.
        legal: The sizes that it takes; None where they cannot be worked out.
        sizes: The sizes that were asked about.
        advice: Command lines that go on from here.
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

    def to_json(self) -> str:
        """Return the facts as JSON, sizes as HEIGHTxWIDTH."""

        def write(value: object) -> object:
            if isinstance(value, (Size, Path)):
                return str(value)
            if dataclasses.is_dataclass(value):
                fields = dataclasses.fields(value)
                return {field.name: write(getattr(value, field.name)) for field in fields}
            return [write(entry) for entry in value] if isinstance(value, tuple) else value

        return json.dumps(write(self), indent=2, sort_keys=True)

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
            f"  input   {self.input}",
            *(f"  output  {output}" for output in self.outputs),
            f"  trained at {self.training_size or 'a size that the file does not tell'}",
            f"  head    {self._describe_head()}",
            f"  sizes   {self._describe_sizes()}",
        ]
        for facts in self.sizes:
            shapes = ", ".join("×".join(map(str, shape)) or "?" for shape in facts.outputs)
            lines.append(f"  {facts.size}: {shapes if facts.is_legal else facts.reason}")
        lines += [f"  next    {command}" for command in self.advice]
        return "\n".join(lines)

    def _describe_head(self) -> str:
        if self.head is None:
            return self.no_head
        head = self.head
        share = head.weights / self.weights if self.weights else 0.0
        return (
            f"fc over {head.feature_map!r}, {head.channels}×{head.map_size.height}×"
            f"{head.map_size.width} = {head.inputs:,} inputs; {head.weights:,} weights, "
            f"{share:.1%} of all"
        )

    def _describe_sizes(self) -> str:
        if self.legal is None:
            return "not known"
        if self.legal.minimum == self.legal.maximum:
            return f"{self.legal.minimum} only"
        return str(self.legal)


def inspect(model: Path | str, sizes: Sequence[Size] = ()) -> Inspection:
    """Read an ONNX file and work out its head and its sizes; nothing is run, no weight is read.

    Args:
        model: The file.
        sizes: Image sizes to try. Where the file does not tell what it was trained at, the head is
            looked for at the first of them.

    Raises:
        AnysizeError: A subclass says what cannot be used.
    """
    from anysize import surgery
    from anysize.surgery.graph import opset_version

    path = Path(model)
    graph = surgery.load_model(path)
    metadata = surgery.read_metadata(graph)
    training = surgery.trained_size(graph)
    head, why = _find_head(graph, training or (sizes[0] if sizes else None))
    image = surgery.image_input(graph)
    return Inspection(
        path=path,
        opset=opset_version(graph),
        input=_describe(image),
        outputs=tuple(_describe(output) for output in graph.graph.output),
        nodes=len(graph.graph.node),
        weights=_count_weights(graph),
        model=metadata.model,
        recorded_head=metadata.head,
        training_size=training,
        head=None if head is None else _head_facts(head),
        no_head=why,
        legal=_legal(graph, head),
        sizes=tuple(_try_size(graph, size) for size in sizes),
        advice=_advise(path, metadata, training, has_head=head is not None, why=why),
    )


def _find_head(graph: onnx.ModelProto, size: Size | None) -> tuple[Head | None, str]:
    """Return the FC head that fixes the image size; else None and why there is none."""
    from anysize import surgery

    try:
        head = surgery.find_head(graph, size)
        legal = surgery.legal_interval(graph, head.feature_map, head.image_size)
    except surgery.AnySizeAlreadyError as error:
        return None, f"any size: {error}"
    except UnsupportedModelError as error:
        recorded = surgery.read_metadata(graph).head
        if recorded not in (None, "fc", "as-is"):
            return None, f"any size: the file records head {recorded}"
        return None, f"not recognised: {error}"
    if legal.maximum is None:
        return None, f"any size: {head.feature_map!r} is flattened, the same at every image size"
    return head, ""


def _head_facts(head: Head) -> HeadFacts:
    from anysize.surgery.layers import Linear, Pointwise

    constants = {}
    for layer in head.layers:
        if isinstance(layer, Linear):
            constants[layer.weight.root] = layer.weight
            if layer.bias is not None:
                constants[layer.bias.root] = layer.bias
        elif isinstance(layer, Pointwise):
            constants.update({constant.root: constant for constant in layer.parameters})
    return HeadFacts(
        feature_map=head.feature_map,
        channels=head.channels,
        map_size=head.map_size,
        inputs=head.channels * head.map_size.area,
        weights=sum(math.prod(constant.dims) for constant in constants.values()),
    )


def _count_weights(graph: onnx.ModelProto) -> int:
    import onnx

    from anysize.surgery.tensors import all_tensors, element_count

    # Shapes and axes are no weights.
    others = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.STRING)
    return sum(
        element_count(tensor) for tensor in all_tensors(graph) if tensor.data_type not in others
    )


def _legal(graph: onnx.ModelProto, head: Head | None) -> SizeRange | None:
    from anysize import surgery

    static = surgery.static_size(graph)
    if static is not None:
        return SizeRange(static, static)
    try:
        if head is not None:
            return surgery.legal_interval(graph, head.feature_map, head.image_size)
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


def _advise(
    path: Path, metadata: FileMetadata, training: Size | None, *, has_head: bool, why: str
) -> tuple[str, ...]:
    """Write the command lines that make sense for this file."""
    file = shlex.quote(str(path))
    advice = []
    if has_head or "--size" in why:
        size = "" if training else " --size HEIGHTxWIDTH"
        advice.append(f"anysize rewrite {file} -o any.onnx{size}")
    if metadata.map_stride is not None:
        advice.append(f"anysize heatmap {file} IMAGE -o heatmap.png")
    original = "" if metadata.model else " --reference SOURCE"
    advice.append(f"anysize validate {file}{original}")
    return tuple(advice)


def _describe(value: onnx.ValueInfoProto) -> str:
    if not value.type.tensor_type.HasField("shape"):
        return f"{value.name} (shape not declared)"
    dims = value.type.tensor_type.shape.dim
    shape = ", ".join(dim.dim_param or str(dim.dim_value or "?") for dim in dims)
    return f"{value.name} ({shape})"
