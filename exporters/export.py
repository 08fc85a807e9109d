"""Export a module as a graph that is right at every legal size, or say which layer prevents it."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import onnx
from torch import nn

from anysize.errors import AnysizeError, DeclinedError, ExportError, UsageError
from anysize.exporters.axes import (
    asked_sizes,
    fix_axes,
    held_axes,
    length_of,
    refuse_held,
    with_asked_sides,
)
from anysize.exporters.bounds import narrowed
from anysize.exporters.conversion import convert
from anysize.exporters.graph import BATCHES, sizeless_graph
from anysize.exporters.lowerings import has_paper_bins
from anysize.exporters.opset_range import check_opset
from anysize.exporters.sizes import (
    STEPS,
    Probe,
    accepted_sizes,
    declare_outputs,
)
from anysize.exporters.spec import ExportSpec
from anysize.exporters.tracing import gc_paused
from anysize.exporters.writing import (
    clean_graph,
    convert_opset,
    drop_unused,
    new_names,
    rename,
    to_float16,
)
from anysize.heads import AS_IS, FC, head_kind
from anysize.inference import refuse_unready
from anysize.sizes import AXES, MAX_SIDE, Size, SizeRange
from anysize.surgery import (
    FileMetadata,
    HeldWeights,
    find_heads,
    free_axes,
    guard_map_size,
    guard_max_size,
    guard_min_size,
    guard_steps,
    legal_interval,
    legal_sizes,
    map_geometry,
    read_metadata,
    smallest_size,
    write_metadata,
)
from anysize.version import VERSION

__all__ = ["ExportSpec", "Exported", "export_module"]

_ONE_SIZE = frozenset({"batch"})
# The second size is larger by these, so that no side is a multiple of a side of the first.
_LARGER = (69, 107)


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported graph and the sizes it takes.

    Attributes:
        model: The graph, without its large weights.
        weights: What holds them: most are the module's own tensors, not copies.
        sizes: The legal sizes; unbounded above unless the head is `fc` or a bound was declared.
        metadata: What was written into the file.
        is_computed: The graph computes numbers from the image that its module computed in Python.
        not_converted: Why there was nothing to convert, where a conversion was asked for.
        held: Axis of the image that the module holds fixed → its length, and why.
        others: Why the module takes other sizes, too: it takes no heights by widths.
    """

    model: onnx.ModelProto
    weights: HeldWeights
    sizes: SizeRange
    metadata: FileMetadata
    is_computed: bool = False
    not_converted: str = ""
    held: Mapping[str, str] = field(default_factory=dict)
    others: str = ""

    def loaded(self) -> onnx.ModelProto:
        """Return a copy of the graph that has its weights in it, which takes their memory again."""
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        self.weights.load(copy)
        return copy


@gc_paused()
def export_module(module: nn.Module, spec: ExportSpec) -> Exported:
    """Export `module`, in evaluation mode, with symbolic batch, height and width.

    Args:
        module: Takes images (batch, channels, height, width), returns a tensor or a tuple of
            tensors. Not modified.
        spec: What to export it as.

    Raises:
        ExportError: The module cannot be traced, a layer hard-codes the traced size, an operator
            cannot be written at the opset, or the module has no head that could be converted.
        DeclinedError: The conversion would have to guess; the layer is named.
        UsageError: The opset is out of range, a layer is in training mode, or the bounds reach
            beyond what the network takes.
    """
    check_opset(spec.opset)
    hint = ", and ask for half precision with --half"
    refuse_unready(module, spec.name, error=UsageError, hint=hint)
    try:
        return _exported(module, spec, traced=spec.axes)
    except ExportError as error:
        if spec.dynamic is not None:
            raise
        if spec.to is None:
            raise ExportError("; ".join([str(error), *_ways_out(module, spec)])) from error
        try:  # as a file of one size is converted
            return _exported(module, spec, traced=_ONE_SIZE)
        except AnysizeError:
            raise error from None


def _ways_out(module: nn.Module, spec: ExportSpec) -> Iterator[str]:
    """Say what can be exported instead, having tried it."""
    ways = (
        (
            f"for a file that takes {spec.size} alone, give --dynamic batch",
            replace(spec, dynamic=_ONE_SIZE),
        ),
        ("for one that resizes any image to that, --head resize", replace(spec, to="resize")),
    )
    for words, other in ways if spec.head is None else ():
        with contextlib.suppress(AnysizeError):
            _exported(module, other, traced=_ONE_SIZE)
            yield words


def _exported(module: nn.Module, spec: ExportSpec, *, traced: Collection[str]) -> Exported:
    spec = with_asked_sides(spec)
    probe = Probe(module, spec.channels, spec.extra_inputs)
    asked, larger = asked_sizes(spec.size, spec.axes), _larger(spec.size, traced)
    other = probe.other_size(spec.size, larger)
    refuse_held(spec, probe, other)
    graph = sizeless_graph(module, probe, spec, other, traced)
    model, weights = graph.model, graph.weights
    fixed_maps, sizes = _legal_sizes(model, probe, spec)
    others = ""
    sizes = sizes & asked_sizes(spec.size, traced)
    if not fixed_maps and not has_paper_bins(model):  # which leave gaps between legal sizes
        bounds = SizeRange(spec.min_size or Size(1, 1), spec.max_size)
        taken = accepted_sizes(
            probe,
            graph.path,
            sizes,
            name=spec.name,
            size=spec.size,
            larger=larger,
            bounds=bounds,
        )
        sizes, others = taken.sizes, taken.others
        asked = asked & sizes if others else asked
    drop_unused(model)
    is_declared = declare_outputs(model, probe, (BATCHES[0], spec.size), (BATCHES[1], other))
    held = held_axes(None if fixed_maps else sizes, probe, spec)
    free_axes(
        model,
        height="height" not in held,
        width="width" not in held,
        others=_symbolic_axes(spec),
        outputs=not is_declared,
    )
    metadata = _metadata(model, spec, sizes, asked, is_fixed=bool(fixed_maps))
    if graph.path.other:
        metadata = replace(metadata, other_path=graph.path.other, path_sizes=graph.path.sizes)
    reason = ""
    if spec.to is not None:
        # What bounds the module says nothing of an image that is resized for it, and what bounds
        # its FC head nothing of another head.
        is_resized = head_kind(spec.to).elsewhere == "resizes"
        is_open = is_resized or bool(fixed_maps)
        write_metadata(model, metadata.with_sizes(SizeRange(Size(1, 1))) if is_open else metadata)
        reason = convert(
            model, weights, name=spec.name, to=spec.to, size=spec.size, output=spec.output
        )
        if not reason:
            metadata = read_metadata(model)
            declared = metadata.sizes or SizeRange(Size(1, 1))
            # What the module refuses by itself it refuses before another head, too, but not
            # behind a resize; a module with an FC head could not be asked.
            keeps = not fixed_maps and not is_resized
            fixed_maps, sizes = (), declared & sizes if keeps else declared
    declared = narrowed(sizes & asked, spec.min_size, spec.max_size, others=others)
    metadata = metadata.with_sizes(declared)
    for fixed_map in fixed_maps:
        guard_map_size(model, fixed_map, spec.size)
    # At the image, for every head: ONNX Runtime 1.31 divides by zero, and ends the process, where
    # a MaxPool of overlapping windows meets an empty map (AlexNet below 50×50).
    guard_min_size(model, declared.minimum)
    guard_steps(model, declared)
    if declared.maximum is not None and not (fixed_maps and declared.maximum == sizes.maximum):
        guard_max_size(model, declared.maximum)
    fix_axes(model, {axis: length_of(spec, axis) for axis in AXES if axis not in spec.axes})
    clean_graph(model)
    if spec.float16:
        to_float16(model, weights)
    convert_opset(model, spec.opset)
    clean_graph(model)
    metadata = _rename(model, spec, metadata)
    write_metadata(model, metadata)
    model.producer_name, model.producer_version = "anysize", metadata.version or ""
    is_kept = spec.to is None or bool(reason)
    return Exported(
        model,
        weights,
        declared,
        metadata,
        is_computed=graph.is_computed,
        not_converted=reason,
        held=held if is_kept else held_axes(None, probe, spec),
        others=others if is_kept else "",
    )


def _rename(model: onnx.ModelProto, spec: ExportSpec, metadata: FileMetadata) -> FileMetadata:
    """Give inputs and outputs the names that the user wants, and record those that outputs had."""
    graph = model.graph
    inputs = new_names("input", graph.input, spec.file_inputs)
    outputs = new_names("output", graph.output, spec.file_outputs)
    if shared := {*inputs.values()} & {*outputs.values()}:
        raise UsageError(f"--output-names: {min(shared)} is the name of an input, too")
    rename(graph, {**inputs, **outputs})
    return replace(metadata, output_names=tuple(outputs) or None)


def _larger(size: Size, axes: Collection[str]) -> Size:
    """Return a size beyond another one along the axes that shall be free."""
    height, width = _LARGER
    return Size(
        min(size.height + height * ("height" in axes), MAX_SIDE),
        min(size.width + width * ("width" in axes), MAX_SIDE),
    )


def _legal_sizes(
    model: onnx.ModelProto, probe: Probe, spec: ExportSpec
) -> tuple[tuple[str, ...], SizeRange]:
    """Return the maps whose size FC heads fix, and the legal sizes of the image."""
    intervals = {name: legal_interval(model, name, spec.size) for name in _maps(model, spec)}
    # Where there is no largest image, what is flattened was pooled to that size, whatever it was.
    fixed = {name: sizes for name, sizes in intervals.items() if sizes.maximum is not None}
    if fixed and not any(_reaches_beyond(sizes, probe, spec) for sizes in fixed.values()):
        return tuple(fixed), functools.reduce(operator.and_, fixed.values())
    if has_paper_bins(model):  # which leave gaps between legal sizes, in no order
        return (), SizeRange(smallest_size(model, has_gaps=True))
    try:
        return (), legal_sizes(model, spec.size, further=STEPS)
    except DeclinedError as error:
        raise ExportError(f"{spec.name}: {str(error).partition('; ')[0]}") from error


def _reaches_beyond(sizes: SizeRange, probe: Probe, spec: ExportSpec) -> bool:
    """Say whether the module takes more along an axis than the sizes that keep its map.

    What looks like a flatten may drop an axis of one row, and keep the columns. One that folds a
    larger map into the batch takes it, too, and has more answers than images.
    """
    top = sizes.maximum or sizes.minimum
    few, many = (probe.output_shapes(batch, spec.size) for batch in BATCHES)
    axes = [
        (place, axis)
        for place, (one, other) in enumerate(zip(few, many, strict=True))
        for axis in range(min(len(one), len(other)))
        if one[axis] != other[axis]
    ]
    others = (
        Size(min(top.height + 1, MAX_SIDE), spec.size.width),
        Size(spec.size.height, min(top.width + 1, MAX_SIDE)),
    )
    found = [probe.output_shapes(BATCHES[1], other) for other in others]
    return any(
        [len(shape) for shape in shapes] == [len(shape) for shape in many]
        and all(shapes[place][axis] == many[place][axis] for place, axis in axes)
        for shapes in found
        if shapes
    )


def _symbolic_axes(spec: ExportSpec) -> dict[str, dict[int, str]]:
    """Name the axes that are neither the batch's nor the image's, by input and output."""
    axes = {extra.name: extra.symbols for extra in spec.extra_inputs}
    rows = [extra.rows for extra in spec.extra_inputs if extra.rows is not None]
    if rows:
        axes.update((name, {0: rows[0]}) for name in spec.output_names)
    return axes


def _maps(model: onnx.ModelProto, spec: ExportSpec) -> tuple[str, ...]:
    """Name the feature maps that FC heads are on; none where the head takes any size."""
    if head_kind(spec.head).takes_any_size:
        return ()
    try:
        return tuple(head.feature_map for head in find_heads(model, spec.size))
    except DeclinedError as error:
        if head_kind(spec.head).fixes_size:
            raise ExportError(f"{spec.name}: the FC head is not recognised: {error}") from error
        return ()


def _metadata(
    model: onnx.ModelProto, spec: ExportSpec, sizes: SizeRange, asked: SizeRange, *, is_fixed: bool
) -> FileMetadata:
    asked = asked & SizeRange(spec.min_size or Size(1, 1), spec.max_size)
    geometry = map_geometry(model, "map") if "map" in spec.output_names else None
    return FileMetadata(
        version=VERSION,
        model=spec.name,
        head=spec.head or (FC if is_fixed else AS_IS),
        options=spec.options,
        model_args=spec.model_args,
        size=spec.size,
        classes=spec.classes,
        seed=spec.seed,
        weights_sha256=spec.weights_sha256,
        state_sha256=spec.state_sha256,
        source=spec.source,
        precision="float16" if spec.float16 else None,
        asked_min_size=asked.minimum if asked.minimum != Size(1, 1) else None,
        asked_max_size=asked.maximum,
        asked_batch=None if "batch" in spec.axes else 1,
        map_stride=geometry.stride if geometry else None,
        map_offset=geometry.offset if geometry else None,
        receptive_field=geometry.receptive_field if geometry else None,
    ).with_sizes(sizes)
