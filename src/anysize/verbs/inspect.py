"""Tell what head an ONNX file has, which sizes it takes, and what could be done about it."""

from __future__ import annotations

import functools
import json
import math
import operator
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.errors import UnsupportedModelError, UsageError
from anysize.heads import head_kind
from anysize.sizes import AnySize, Size, SizeRange, to_sizes
from anysize.verbs.advice import advise
from anysize.verbs.costs import layer_facts, part_costs
from anysize.verbs.inspection import HeadFacts, Inspection, SizeFacts
from anysize.verbs.next_heads import next_heads
from anysize.verbs.progress import Progress, silent

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from anysize.surgery import Head
    from anysize.surgery.graph import Graph

__all__ = ["HeadFacts", "Inspection", "SizeFacts", "inspect"]


def inspect(
    model: Path | str | nn.Module,
    sizes: AnySize | Sequence[AnySize] = (),
    *,
    size: AnySize | None = None,
    weights: Path | str | None = None,
    model_args: Mapping[str, object] | None = None,
    layers: bool = False,
    progress: Progress = silent,
) -> Inspection:
    """Read an ONNX file and work out its head and its sizes; nothing is run, no weight is read.

    Args:
        model: The file; or a SOURCE or a module, which is exported first, as it stands and without
            a proof, to a file that is removed again.
        sizes: Image sizes to try. Where the file does not tell what it was trained at, the head is
            looked for at the first of them.
        size: The training size, where the file does not tell or for a SOURCE.
        weights: A checkpoint for a SOURCE.
        model_args: What a SOURCE is built with.
        layers: Describe every node, too.
        progress: Told how far an export is.

    Raises:
        AnysizeError: A subclass says what cannot be used.
    """
    asked = to_sizes(sizes) if sizes else ()
    if isinstance(asked, str):
        raise UsageError(f"sizes {asked!r}: expected sizes, such as 224,256x320")
    training = None if size is None else Size.of(size)
    if isinstance(model, (str, Path)) and _is_file(model):
        if weights is not None or model_args:
            raise UsageError(f"{model}: is a file; weights and model args are for a SOURCE")
        return _inspect(Path(model), asked, training, layers=layers)
    from anysize.verbs.export import export

    name = str(model) if isinstance(model, (str, Path)) else type(model).__qualname__
    source = str(model) if isinstance(model, Path) else model
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "inspected.onnx"
        export(
            source,
            file,
            size=training,
            weights=weights,
            model_args=model_args,
            verify=False,
            progress=progress,
        )
        arguments = json.dumps(model_args) if model_args else None
        given = (("size", training), ("weights", weights), ("model-args", arguments))
        options = "".join(f" --{word} {shlex.quote(str(said))}" for word, said in given if said)
        return _inspect(file, asked, training, layers=layers, source=name, options=options)


def _is_file(model: Path | str) -> bool:
    """Whether a name is one of a file; one with a colon, or that the zoo knows, is a SOURCE."""
    from anysize.models import ZOO

    text = str(model)
    if text.endswith(".onnx") or Path(model).exists():
        return True
    return ":" not in text and text not in ZOO and "." not in text


def _inspect(
    path: Path,
    sizes: tuple[Size, ...],
    size: Size | None,
    *,
    layers: bool,
    source: str = "",
    options: str = "",
) -> Inspection:
    """Read a file; one that was made of a SOURCE, with such options, is called by that name."""
    from anysize import surgery
    from anysize.surgery.graph import Graph, image_layout, opset_version, required_inputs

    graph = surgery.load_model(path, weights="in_file")
    metadata = surgery.read_metadata(graph)
    training = surgery.trained_size(graph) or size
    heads, why = _find_heads(graph, training or (sizes[0] if sizes else None))
    known = Graph(graph)
    costed = _taken(known, sizes or ((training,) if training else ()))
    feature_map = _feature_map(known, heads, training)
    facts = tuple(_head_facts(head) for head in heads)
    if not source and not surgery.trained_size(graph):
        options = f" --size {size or 'HEIGHTxWIDTH'}"
    layout = image_layout(graph)
    order = "" if layout.is_channels_first else f", {layout.words}"
    image = surgery.image_input(graph)
    return Inspection(
        path=Path(source) if source else path,
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
            advise(path, graph, training, has_head=bool(heads), why=why)
            if not source and layout.has_sides_together
            else ()
        ),
        further_heads=facts[1:],
        further_inputs=tuple(_describe(one) for one in required_inputs(graph) if one != image),
        heads=next_heads(
            known,
            training or (sizes[0] if sizes else None),
            command=lambda head: _command(source or path, head, options, is_source=bool(source)),
            describe=_describe,
        ),
        costs=tuple(cost for one in costed for cost in part_costs(known, one, feature_map)),
        layers=layer_facts(known, costed[0]) if layers and costed else (),
        preprocessing=str(metadata.preprocessing or ""),
        class_names=metadata.class_names or (),
    )


def _command(model: Path | str, head: str, options: str, *, is_source: bool) -> str:
    verb, option = ("export", "head") if is_source else ("rewrite", "to")
    return f"anysize {verb} {shlex.quote(str(model))} --{option} {head}{options} -o {head}.onnx"


def _taken(graph: Graph, sizes: Sequence[Size]) -> tuple[Size, ...]:
    """Return the sizes that a graph takes."""
    return tuple(one for one in sizes if _try_size(graph.model, one).is_legal)


def _feature_map(graph: Graph, heads: Sequence[Head], size: Size | None) -> str | None:
    """Name what the head reads, an FC head or one that pools globally; None where none is known."""
    from anysize.surgery import find_pooled_head

    if heads:
        return heads[0].feature_map
    try:
        return find_pooled_head(graph, size).feature_map
    except UnsupportedModelError:
        return None


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


def _describe(value: onnx.ValueInfoProto) -> str:
    if not value.type.tensor_type.HasField("shape"):
        return f"{value.name} (shape not declared)"
    dims = value.type.tensor_type.shape.dim
    shape = ", ".join(dim.dim_param or str(dim.dim_value or "?") for dim in dims)
    return f"{value.name} ({shape})"
