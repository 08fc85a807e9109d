"""Choosing the reference that a graph under test has to equal."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.errors import DeclinedError, SourceError, UsageError
from anysize.heads import FC, head_kind
from anysize.validators.references.composed import (
    Part,
    SeveralHeads,
    TurnedReference,
    converted_reference,
)
from anysize.validators.references.forked import ForkedReference
from anysize.validators.references.layout import is_map, output_layout
from anysize.validators.references.protocol import FcOriginal, Reference
from anysize.validators.worker import Limits, can_fork, default_limits

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from anysize.sizes import Size
    from anysize.surgery.graph import ImageLayout
    from anysize.surgery.targets import Output
    from anysize.validators.references.eager import EagerFc

__all__ = ["choose_reference"]

_MAP_RANK = 4


def choose_reference(
    candidate: onnx.ModelProto,
    original: Reference | nn.Module | Path | str,
    *,
    name: str = "",
    threads: int = 1,
    limits: Limits | None = None,
) -> Reference:
    """Pick how the original becomes the reference for `candidate`.

    A class map is compared with the original's own layers on each window of its feature map;
    everything else output by output. A graph counts as fully convolutional where its metadata say
    so, or, where they say nothing, where it puts out a map of rank 4.

    Args:
        candidate: The graph under test. The reference takes images whose axes lie as its do.
        original: A module in evaluation mode, the path of an ONNX file, or a ready reference.
        name: How reports call a module; its own name by default.
        threads: Threads for ONNX Runtime.
        limits: What a module may take of time and memory, in a process of its own; None for the
            default. One on a GPU runs in this process, as do all where processes cannot fork.

    Raises:
        SourceError: The module is in training mode, not in float32, or is no module.
        ModelFileError: The file is unreadable, invalid or unsafe.
        NotRunError: The module ends its process when it is cut at its feature map.
    """
    from anysize.surgery.graph import ImageLayout, image_layout

    if isinstance(original, Reference):
        return original
    if isinstance(original, (str, Path)):
        reference, layout = _from_file(candidate, Path(original), threads)
    else:
        reference, layout = _in_a_fork(candidate, original, name, limits), ImageLayout()
    own = image_layout(candidate)
    return reference if own.sides == layout.sides else TurnedReference(reference, own, layout)


def _in_a_fork(
    candidate: onnx.ModelProto, module: nn.Module, name: str, limits: Limits | None
) -> Reference:
    """Run a module in a process that it may end, where system and device let it have one."""
    from anysize.validators.references.eager import module_device, module_name

    make = partial(_from_module, candidate, module, name)
    if not can_fork() or module_device(module) != "cpu":
        return make()
    label = name or module_name(module)
    return ForkedReference(make, name=label, limits=limits or default_limits("cpu"))


def _from_file(
    candidate: onnx.ModelProto, path: Path, threads: int
) -> tuple[Reference, ImageLayout]:
    from anysize.surgery import fixed_axes, load_model, read_metadata
    from anysize.surgery.graph import require_sides_together
    from anysize.surgery.shapes import refuse_oversized
    from anysize.validators.inputs import float_outputs
    from anysize.validators.references.graph import (
        GraphPair,
        OnnxReference,
        converted_graph,
        freed_original,
    )

    model = load_model(path, weights="in_file")
    layout = require_sides_together(model)
    float_outputs(model)
    refuse_oversized(model, path)
    graph = GraphPair.of_file(path, model=model, threads=threads)
    said = read_metadata(candidate)
    is_converted = head_kind(said.head).is_converted or _is_fully_convolutional(candidate)
    own = read_metadata(model).head
    is_other = own is None or own != said.head
    if is_converted and is_other and head_kind(own).is_convertible:
        try:
            keep = said.kept or ()
            return converted_graph(candidate, graph, size=said.size, keep=keep), layout
        except DeclinedError:  # no FC head: compared output by output
            pass
    if set(fixed_axes(model)) > set(fixed_axes(candidate)):  # nothing but what is declared changed
        graph = freed_original(graph, said.size, keep=said.kept or ()) or graph
    return OnnxReference(graph), layout


def _from_module(candidate: onnx.ModelProto, module: nn.Module, name: str) -> Reference:
    from torch import nn

    from anysize.surgery import read_metadata
    from anysize.validators.references.eager import (
        ModuleFc,
        ModuleReference,
        OneOutput,
        module_name,
    )

    if not isinstance(module, nn.Module):
        raise SourceError(
            f"reference: got {type(module).__name__}, expected an nn.Module or an ONNX file"
        )
    own = getattr(module, "head", None)
    own = own if isinstance(own, str) else None  # a user's may be a layer
    said = read_metadata(candidate)
    is_converted = head_kind(said.head).converts_modules and said.head != own
    if not (is_converted or (own == FC and _is_fully_convolutional(candidate))):
        return ModuleReference(module, name=name)
    layout = output_layout(candidate)

    def reference(
        head: str | None, halves: Callable[[], FcOriginal], layout: Output = layout
    ) -> Reference:
        return converted_reference(
            head,
            halves=halves,
            whole=lambda: ModuleReference(module, name=name),
            size=said.size,
            layout=layout,
        )

    if own is None and _answers_maps(candidate, module):
        return ModuleReference(module, name=name)  # it is fully convolutional itself
    if own == FC:
        return reference(said.head, lambda: ModuleFc(module, name=name))
    try:
        return reference(said.head, lambda: _eager_halves(candidate, module, name, said.head))
    except SourceError:
        # One feature map does not lead to all outputs; one may lead to each.
        outputs = candidate.graph.output
        is_whole = len(outputs) == 1 or _adds_outputs(module, candidate)
        if is_whole or not head_kind(said.head).is_on_each_fc_head:
            raise
    parts = []
    for place, output in enumerate(outputs):
        part = OneOutput(module, place)
        is_kept = head_kind(said.head).elsewhere == "pools" or is_map(output)
        head = said.head if is_kept else "gap"
        halves = partial(_eager_halves, candidate, part, name or module_name(module), head)
        made = reference(head, halves, "map")
        parts.append(Part(made, (output.name,)))
    return SeveralHeads(parts, outputs=[output.name for output in outputs])


def _answers_maps(candidate: onnx.ModelProto, module: nn.Module) -> bool:
    """Whether the module's own outputs have the four axes of the file's maps already."""
    from anysize.validators.references.eager import output_ranks

    ranks = [len(output.type.tensor_type.shape.dim) for output in candidate.graph.output]
    size = _known_size(candidate, module)
    return (
        _MAP_RANK in ranks
        and size is not None
        and output_ranks(module, size=size, channels=_channels(candidate)) == ranks
    )


def _known_size(candidate: onnx.ModelProto, module: nn.Module) -> Size | None:
    from anysize.surgery import trained_size
    from anysize.validators.references.eager import own_training_size

    return trained_size(candidate) or own_training_size(module)


def _channels(candidate: onnx.ModelProto) -> int:
    from anysize.surgery import image_input
    from anysize.surgery.graph import image_layout

    axis = image_layout(candidate).channels
    return int(image_input(candidate).type.tensor_type.shape.dim[axis].dim_value)


def _adds_outputs(module: nn.Module, candidate: onnx.ModelProto) -> bool:
    """Whether the file hands out maps beside the module's own outputs."""
    from anysize.validators.references.eager import own_output_names

    own = own_output_names(module)
    return own is not None and len(own) != len(candidate.graph.output)


def _eager_halves(
    candidate: onnx.ModelProto, module: nn.Module, name: str, head: str | None
) -> EagerFc:
    """Cut a module that was exported with another head than its own."""
    from anysize.validators.references.eager import EagerFc

    size = _known_size(candidate, module)
    if size is None:
        raise UsageError(
            "the file does not say its training size, so its reference cannot be cut at the "
            "feature map; give --reference ORIGINAL.onnx"
        )
    return EagerFc(
        module,
        size=size,
        channels=_channels(candidate),
        name=name,
        slides_windows=not head_kind(head).averages_map,
    )


def _is_fully_convolutional(candidate: onnx.ModelProto) -> bool:
    from anysize.surgery import read_metadata

    head = read_metadata(candidate).head
    if head is not None:
        return head_kind(head).is_fully_convolutional
    outputs = candidate.graph.output
    return any(is_map(o) and o.type.tensor_type.HasField("shape") for o in outputs)
