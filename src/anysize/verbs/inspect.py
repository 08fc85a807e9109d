"""Tell what head an ONNX file has, which sizes it takes, and what could be done about it."""

from __future__ import annotations

import functools
import math
import operator
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.errors import UnsupportedModelError
from anysize.heads import head_kind
from anysize.sizes import Size, SizeRange
from anysize.verbs.inspection import HeadFacts, Inspection, SizeFacts
from anysize.verbs.original import is_known_network

if TYPE_CHECKING:
    import onnx

    from anysize.surgery import Head

__all__ = ["HeadFacts", "Inspection", "SizeFacts", "inspect"]


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
    from anysize.surgery.graph import image_layout, opset_version, required_inputs

    path = Path(model)
    graph = surgery.load_model(path, weights="in_file")
    metadata = surgery.read_metadata(graph)
    training = surgery.trained_size(graph)
    heads, why = _find_heads(graph, training or (sizes[0] if sizes else None))
    facts = tuple(_head_facts(head) for head in heads)
    layout = image_layout(graph)
    order = "" if layout.is_channels_first else f", {layout.words}"
    image = surgery.image_input(graph)
    return Inspection(
        path=path,
        opset=opset_version(graph),
        input=_describe(image) + order,
        outputs=tuple(_describe(output) for output in graph.graph.output),
        nodes=len(graph.graph.node),
        weights=_count_weights(graph),
        model=metadata.model,
        recorded_head=metadata.head,
        training_size=training,
        head=facts[0] if facts else None,
        no_head=why,
        legal=_legal(graph, heads),
        sizes=tuple(_try_size(graph, size) for size in sizes),
        advice=(
            _advise(path, graph, training, has_head=bool(heads), why=why)
            if layout.has_sides_together
            else ()
        ),
        further_heads=facts[1:],
        further_inputs=tuple(_describe(one) for one in required_inputs(graph) if one != image),
    )


def _find_heads(graph: onnx.ModelProto, size: Size | None) -> tuple[tuple[Head, ...], str]:
    """Return the FC heads that fix the image size; else none and why there are none."""
    from anysize import surgery

    try:
        heads = surgery.find_heads(graph, size)
        fixed = tuple(head for head in heads if _interval(graph, head).maximum is not None)
    except surgery.AnySizeAlreadyError as error:
        return (), f"any size: {error}"
    except UnsupportedModelError as error:
        recorded = surgery.read_metadata(graph).head
        if head_kind(recorded).takes_any_size:
            return (), f"any size: the file records head {recorded}"
        if size is None and surgery.find_target(graph) == "dynamic":
            return (), "any size: height and width are free, and the layers take other sizes"
        return (), f"not recognised: {error}"
    if not fixed:
        name = heads[0].feature_map
        return (), f"any size: {name!r} is flattened, the same at every image size"
    return fixed, ""


def _interval(graph: onnx.ModelProto, head: Head) -> SizeRange:
    from anysize import surgery

    return surgery.legal_interval(graph, head.feature_map, head.image_size)


def _head_facts(head: Head) -> HeadFacts:
    from anysize.surgery.heads import Linear, Pointwise

    constants = {}
    for layer in head.layers:
        if isinstance(layer, Linear):
            constants[layer.weight.root] = layer.weight
            if layer.bias is not None:
                constants[layer.bias.root] = layer.bias
        elif isinstance(layer, Pointwise):
            constants.update({p.constant.root: p.constant for p in layer.parameters})
    return HeadFacts(
        feature_map=head.feature_map,
        channels=head.channels,
        map_size=head.map_size,
        inputs=head.channels * head.map_size.area,
        weights=sum(math.prod(constant.root_dims) for constant in constants.values()),
    )


def _count_weights(graph: onnx.ModelProto) -> int:
    import onnx

    from anysize.surgery.storage import all_tensors, element_count

    # Shapes and axes are no weights.
    others = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.STRING)
    return sum(
        element_count(tensor) for tensor in all_tensors(graph) if tensor.data_type not in others
    )


def _legal(graph: onnx.ModelProto, heads: tuple[Head, ...]) -> SizeRange | None:
    from anysize import surgery
    from anysize.surgery.graph import Graph
    from anysize.surgery.shapes import legal_sizes

    static = surgery.static_size(graph)
    if static is not None:
        return SizeRange(static, static)
    try:
        if heads:
            return functools.reduce(operator.and_, (_interval(graph, head) for head in heads))
        known = Graph.of(graph)
        near = surgery.trained_size(known) or surgery.smallest_size(known)
        return legal_sizes(known, near)
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
    path: Path, graph: onnx.ModelProto, training: Size | None, *, has_head: bool, why: str
) -> tuple[str, ...]:
    """Write the command lines that make sense for this file."""
    from anysize.surgery import MODULE_OBJECT, read_metadata

    file, metadata = shlex.quote(str(path)), read_metadata(graph)
    advice = []
    if has_head or "--size" in why:
        size = "" if training else " --size HEIGHTxWIDTH"
        advice.append(f"anysize rewrite {file} -o any.onnx{size}")
    elif target := _freeing_target(graph):
        advice.append(f"anysize rewrite {file} --to {target} -o any.onnx")
    if not has_head and _has_pooled_head(graph):
        advice.append(f"anysize rewrite {file} -o map.onnx --to cam")
    if metadata.map_stride is not None:
        advice.append(f"anysize heatmap {file} IMAGE -o heatmap.png")
    original = " --reference SOURCE"
    if metadata.source == MODULE_OBJECT:
        original = " --reference module:function --weights FILE"
    elif metadata.model is not None and is_known_network(metadata.model):
        original = ""
    advice.append(f"anysize validate {file}{original}")
    return tuple(advice)


def _freeing_target(graph: onnx.ModelProto) -> str:
    """Name the target that frees a file which is fixed without an FC head; "" where none does."""
    from anysize.surgery import find_target, fixed_axes

    try:
        target = find_target(graph) if fixed_axes(graph) else ""
    except UnsupportedModelError:
        return ""
    return "" if target == "fcn" else target


def _has_pooled_head(graph: onnx.ModelProto) -> bool:
    from anysize.surgery import find_pooled_head

    try:
        find_pooled_head(graph)
    except UnsupportedModelError:
        return False
    return True


def _describe(value: onnx.ValueInfoProto) -> str:
    if not value.type.tensor_type.HasField("shape"):
        return f"{value.name} (shape not declared)"
    dims = value.type.tensor_type.shape.dim
    shape = ", ".join(dim.dim_param or str(dim.dim_value or "?") for dim in dims)
    return f"{value.name} ({shape})"
