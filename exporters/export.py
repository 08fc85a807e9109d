"""Export a module as a graph that is right at every legal size, or say which layer prevents it.

The module is traced statically. The trace becomes the graph: what torch.onnx hard-codes is
lowered, flattening becomes Flatten, and the axes are freed. That nothing else depends on the size
is proved either by a probe, which runs the module on the meta device at two sizes and compares what
it asks of PyTorch, or, where the probe cannot tell, by a second trace: constants that differ belong
to the image, and are computed from it, or refused. Symbolic tracing, the exporter's own way, takes
several times as long and hard-codes in silence.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, replace

import onnx
import onnx_ir as ir
from torch import nn

from anysize.errors import DeclinedError, ExportError, UsageError
from anysize.exporters.bounds import narrowed
from anysize.exporters.conversion import convert
from anysize.exporters.inputs import InputSpec
from anysize.exporters.lowerings import has_paper_bins, lower_placeholders
from anysize.exporters.opset_range import DEFAULT_OPSET, check_opset
from anysize.exporters.sizes import (
    Probe,
    accepted_sizes,
    check_nothing_is_hard_coded,
    drop_identity_pooling,
    free_shapes,
    hard_coded_values,
    pool_whole_maps,
)
from anysize.exporters.tracing import Trace, fold_batch_norm, gc_paused, trace
from anysize.exporters.writing import (
    ceil_mode_to_padding,
    clean_graph,
    convert_opset,
    drop_unused,
    strip_trace,
    to_float16,
    trace_opset,
)
from anysize.heads import AS_IS, FC, head_kind
from anysize.inference import refuse_unready
from anysize.sizes import MAX_SIDE, Size, SizeRange
from anysize.surgery import (
    FileMetadata,
    HeldWeights,
    find_heads,
    free_axes,
    guard_map_size,
    guard_max_size,
    guard_min_size,
    legal_interval,
    map_geometry,
    read_metadata,
    reduce_mean_to_global_pool,
    reshape_to_flatten,
    smallest_size,
    write_metadata,
)
from anysize.surgery.storage import LARGE_BYTES
from anysize.version import VERSION

__all__ = ["ExportSpec", "Exported", "export_module"]

# Batches of the two traces: neither is 1, which broadcasts, and they share no factor.
_BATCHES = (2, 3)
# The second size is larger by these, so that no side is a multiple of a side of the first.
_LARGER = (69, 106)


@dataclass(frozen=True, slots=True)
class ExportSpec:
    """What to export a module as.

    Attributes:
        name: The source's name, for the file's metadata.
        head: The head as the zoo calls it; None for a module that is exported as it stands.
        to: The head to convert it to, with the surgery that rewrites a file; None for none.
        channels: Channels of the image.
        classes: Number of classes; None where it is not known.
        size: The training size.
        output_names: Names of the module's outputs, in order.
        extra_inputs: The module's arguments behind the image, in order.
        opset: ONNX operator set to write.
        min_size: The smallest image that the file shall take; the network's own by default.
        max_size: The largest; the network's own, or none, by default.
        float16: Write weights and body in float16; inputs and outputs stay float32.
        seed: What the weights were drawn from; None where they were not drawn.
        weights_sha256: Hash of the weights file.
        state_sha256: Hash of the weights themselves.
        source: `surgery.MODULE_OBJECT` where no SOURCE named the module.
        options: Choices within the head, as JSON.
    """

    name: str
    head: str | None
    channels: int
    classes: int | None
    size: Size
    to: str | None = None
    output_names: tuple[str, ...] = ("logits",)
    extra_inputs: tuple[InputSpec, ...] = ()
    opset: int = DEFAULT_OPSET
    min_size: Size | None = None
    max_size: Size | None = None
    float16: bool = False
    seed: int | None = None
    weights_sha256: str | None = None
    state_sha256: str | None = None
    source: str | None = None
    options: str | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported graph and the sizes it takes.

    Attributes:
        model: The graph, without its large weights.
        weights: What holds them: most are the module's own tensors, not copies.
        sizes: The legal sizes; unbounded above unless the head is `fc` or a bound was declared.
        metadata: What was written into the file.
        not_converted: Why there was nothing to convert, where a conversion was asked for.
    """

    model: onnx.ModelProto
    weights: HeldWeights
    sizes: SizeRange
    metadata: FileMetadata
    not_converted: str = ""

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
    probe = Probe(module, spec.channels, spec.extra_inputs)
    weights = HeldWeights()
    model = _sizeless_graph(module, probe, spec, weights)
    fixed_maps, sizes = _legal_sizes(model, spec)
    if not fixed_maps and not has_paper_bins(model):  # which leave gaps between legal sizes
        larger = _larger(spec.size)
        sizes = accepted_sizes(probe, sizes, name=spec.name, size=spec.size, larger=larger)
    drop_unused(model)
    free_axes(model, others=_symbolic_axes(spec))
    metadata = _metadata(model, spec, sizes, is_fixed=bool(fixed_maps))
    reason = ""
    if spec.to is not None:
        write_metadata(model, metadata)
        reason = convert(model, weights, name=spec.name, to=spec.to, size=spec.size)
        if not reason:
            metadata = read_metadata(model)
            taken = SizeRange(metadata.min_size or Size(1, 1), metadata.max_size)
            # What the module refuses by itself it refuses before another head, too, but not
            # behind a resize; a module with an FC head could not be asked.
            keeps = not fixed_maps and head_kind(spec.to).elsewhere != "resizes"
            fixed_maps, sizes = (), taken & sizes if keeps else taken
    declared = narrowed(sizes, spec.min_size, spec.max_size)
    metadata = replace(metadata, min_size=declared.minimum, max_size=declared.maximum)
    for fixed_map in fixed_maps:
        guard_map_size(model, fixed_map, spec.size)
    # At the image, for every head: ONNX Runtime 1.31 divides by zero, and ends the process, where
    # a MaxPool of overlapping windows meets an empty map (AlexNet below 50×50).
    guard_min_size(model, declared.minimum)
    if declared.maximum is not None and not (fixed_maps and declared.maximum == sizes.maximum):
        guard_max_size(model, declared.maximum)
    clean_graph(model)
    if spec.float16:
        to_float16(model, weights)
    convert_opset(model, spec.opset)
    clean_graph(model)
    write_metadata(model, metadata)
    model.producer_name, model.producer_version = "anysize", metadata.version or ""
    return Exported(model, weights, declared, metadata, reason)


def _sizeless_graph(
    module: nn.Module, probe: Probe, spec: ExportSpec, weights: HeldWeights
) -> onnx.ModelProto:
    """Trace the module, and make a graph in which nothing depends on the traced image."""
    other = probe.other_size(spec.size, _larger(spec.size))
    trace_at = functools.partial(
        trace,
        module,
        channels=spec.channels,
        opset=trace_opset(spec.opset),
        output_names=spec.output_names,
        extra_inputs=spec.extra_inputs,
    )
    first = trace_at(size=spec.size, batch=_BATCHES[0])
    if probe.is_size_free((_BATCHES[0], spec.size), (_BATCHES[1], other)):
        model = _graph(first, None, spec, weights)
        traced = {node.name for node in first.model.graph}  # others are a lowering's
        if not any(n.op_type == "Reshape" and n.name in traced for n in model.graph.node):
            return model
    return _graph(first, trace_at(size=other, batch=_BATCHES[1]), spec, weights)


def _larger(size: Size) -> Size:
    height, width = _LARGER
    return Size(min(size.height + height, MAX_SIDE), min(size.width + width, MAX_SIDE))


def _graph(
    first: Trace, second: Trace | None, spec: ExportSpec, weights: HeldWeights
) -> onnx.ModelProto:
    """Lower the first trace; the second one, where it is needed, says what to free.

    Raises:
        ExportError: Something that differs between the traces cannot be freed.
    """
    hard_coded = hard_coded_values(first, second) if second else ()
    model = _proto(first, weights)
    ceil_mode_to_padding(model)
    if second:
        pool_whole_maps(model, first, second)
        free_shapes(model, first, second)
        check_nothing_is_hard_coded(model, hard_coded, first, second)
    to = head_kind(spec.to)
    if to.reads_trained_map and to.elsewhere != "pools":
        drop_identity_pooling(model, name=spec.name, size=spec.size, is_needed=to.has_map)
    lower_placeholders(model)
    reduce_mean_to_global_pool(model)
    reshape_to_flatten(model, spec.size)
    return model


def _proto(trace: Trace, weights: HeldWeights) -> onnx.ModelProto:
    """Write a trace down, normalisations folded; the trace itself stays as it is.

    Large weights are held, for protobuf would copy them, and to write them is to copy them again.
    """
    folded = trace.model.clone()
    fold_batch_norm(folded)
    strip_trace(folded)
    large: dict[str, ir.TensorProtocol] = {}
    for name, value in folded.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes >= LARGE_BYTES:
            large[name] = tensor
            value.const_value = ir.ExternalTensor(
                "", None, None, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
            )
    model: onnx.ModelProto = ir.to_proto(folded)
    for proto in model.graph.initializer:
        if proto.name in large:
            weights.hold(proto, large[proto.name])
    return model


def _legal_sizes(model: onnx.ModelProto, spec: ExportSpec) -> tuple[tuple[str, ...], SizeRange]:
    """Return the maps whose size FC heads fix, and the legal sizes of the image."""
    intervals = {name: legal_interval(model, name, spec.size) for name in _maps(model, spec)}
    # Where there is no largest image, what is flattened was pooled to that size, whatever it was.
    fixed = {name: sizes for name, sizes in intervals.items() if sizes.maximum is not None}
    if fixed:
        return tuple(fixed), functools.reduce(operator.and_, fixed.values())
    return (), SizeRange(smallest_size(model, has_gaps=has_paper_bins(model)))


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
    model: onnx.ModelProto, spec: ExportSpec, sizes: SizeRange, *, is_fixed: bool
) -> FileMetadata:
    geometry = map_geometry(model, "map") if "map" in spec.output_names else None
    return FileMetadata(
        version=VERSION,
        model=spec.name,
        head=spec.head or (FC if is_fixed else AS_IS),
        options=spec.options,
        size=spec.size,
        min_size=sizes.minimum,
        max_size=sizes.maximum,
        classes=spec.classes,
        seed=spec.seed,
        weights_sha256=spec.weights_sha256,
        state_sha256=spec.state_sha256,
        source=spec.source,
        precision="float16" if spec.float16 else None,
        map_stride=geometry.stride if geometry else None,
        map_offset=geometry.offset if geometry else None,
        receptive_field=geometry.receptive_field if geometry else None,
    )
