"""The graph of a module, in which nothing depends on the image that it was traced with.

The module is traced statically. That nothing else depends on the size is proved either by a probe,
which runs the module on the meta device at two sizes and compares what it asks of PyTorch, or,
where the probe cannot tell, by a second trace: constants that differ belong to the image, and are
computed from it. Where one is left, or the traces are not alike, the module is traced anew with
symbols for the axes, the exporter's own way, which takes several times as long and holds on to
sizes in silence; so there are two of these traces, too, and what differs between them is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import onnx
import onnx_ir as ir
from torch import nn

from anysize.errors import AnysizeError, ExportError
from anysize.exporters.lowerings import lower_placeholders
from anysize.exporters.sizes import (
    OnePath,
    Probe,
    alike_sizes,
    drop_identity_pooling,
    free_shapes,
    hard_coded_values,
    pool_whole_maps,
    refuse_hard_coded,
    refuse_random,
    still_hard_coded,
)
from anysize.exporters.spec import ExportSpec
from anysize.exporters.tracing import (
    HeldSizeError,
    Trace,
    fold_batch_norm,
    fold_ranges,
    trace,
    write_padding,
)
from anysize.exporters.writing import ceil_mode_to_padding, strip_trace, trace_opset
from anysize.heads import head_kind
from anysize.sizes import Size
from anysize.surgery import (
    HeldWeights,
    reduce_mean_to_global_pool,
    reshape_to_flatten,
)
from anysize.surgery.storage import LARGE_BYTES

__all__ = ["BATCHES", "SizelessGraph", "sizeless_graph"]

# Batches of the two traces: neither is 1, which broadcasts, they share no factor, and no side of a
# map grows by as much from the one size to the other.
BATCHES = (2, 7)


@dataclass(frozen=True, slots=True)
class SizelessGraph:
    """A graph in which nothing depends on the traced image.

    Attributes:
        model: The graph, without its large weights.
        weights: What holds them.
        is_computed: Numbers that depend on the image had to be computed from it; there were none
            in the module otherwise.
        path: Says of a size whether the module takes the path of the graph there.
    """

    model: onnx.ModelProto
    weights: HeldWeights
    is_computed: bool
    path: OnePath


def sizeless_graph(
    module: nn.Module, probe: Probe, spec: ExportSpec, other: Size, axes: Collection[str]
) -> SizelessGraph:
    """Make a graph in which nothing depends on the traced image.

    Args:
        module: In evaluation mode.
        probe: The same module.
        spec: What to export it as.
        other: A second size that it takes, different along the axes that shall be free, where it
            takes one.
        axes: Those.

    Raises:
        ExportError: The module cannot be traced, or a layer holds on to the traced size.
    """

    def trace_at(size: Size, batch: int, free: Collection[str] = ()) -> Trace:
        traced = trace(
            module,
            size,
            batch=batch,
            channels=spec.channels,
            opset=trace_opset(spec.opset),
            output_names=spec.output_names,
            extra_inputs=spec.extra_inputs,
            free=free,
        )
        write_padding(traced.model, size, spec.size, probe.paddings)
        return traced

    is_free = "height" in axes and "width" in axes
    sizes = alike_sizes(probe, spec.size, other) if is_free else (spec.size, other)
    if spec.with_symbols:
        return _symbolic(trace_at, probe, spec, sizes)
    try:
        return _static(trace_at, probe, spec, sizes)
    except HeldSizeError as error:
        try:
            return _symbolic(trace_at, probe, spec, sizes)
        except AnysizeError as reason:
            is_held = isinstance(reason, HeldSizeError)
            also = "a trace with symbols holds such a number, too" if is_held else reason
            raise ExportError(f"{error}; {also}") from error


def _static(
    trace_at: Callable[..., Trace], probe: Probe, spec: ExportSpec, sizes: tuple[Size, Size]
) -> SizelessGraph:
    """Trace the module statically: once, where the probe or the graph shows that to be enough.

    Raises:
        HeldSizeError: Something that differs between two traces cannot be freed.
    """
    size, other = sizes
    path = OnePath(probe, sizes, has_symbols=False)
    first = trace_at(size, batch=BATCHES[0])
    if probe.is_size_free((BATCHES[0], size), (BATCHES[1], other)):
        fold_ranges(first.model)
        graph = _written(first, spec, path)
        traced = {node.name for node in first.model.graph}  # others are a lowering's
        if not any(n.op_type == "Reshape" and n.name in traced for n in graph.model.graph.node):
            return replace(graph, is_computed=False)
    second = trace_at(other, batch=BATCHES[1])
    fold_ranges(first.model, second.model)
    hard_coded = hard_coded_values(first, second)

    def free(model: onnx.ModelProto) -> None:
        pool_whole_maps(model, first, second)
        free_shapes(model, first, second)
        refuse_hard_coded(still_hard_coded(model, hard_coded), first, second)

    return _written(first, spec, path, free)


def _symbolic(
    trace_at: Callable[..., Trace], probe: Probe, spec: ExportSpec, sizes: tuple[Size, Size]
) -> SizelessGraph:
    """Trace the module with symbols for the axes of which it takes other lengths.

    Raises:
        ExportError: torch.export cannot, or a number of the example's size is left.
    """
    size, other = sizes
    free = {"batch"}
    free |= {"height"} if other.height != size.height else set()
    free |= {"width"} if other.width != size.width else set()
    first = trace_at(size, batch=BATCHES[0], free=free)
    second = trace_at(other, batch=BATCHES[1], free=free)
    fold_ranges(first.model, second.model)
    refuse_hard_coded(hard_coded_values(first, second), first, second)
    return _written(first, spec, OnePath(probe, sizes, has_symbols=True))


def _written(
    first: Trace,
    spec: ExportSpec,
    path: OnePath,
    free: Callable[[onnx.ModelProto], None] | None = None,
) -> SizelessGraph:
    """Write a trace down, free what is hard-coded in it, and lower its placeholders."""
    refuse_random(first)
    weights = HeldWeights()
    model = _proto(first, weights)
    _name_shared_axes(model, spec)
    ceil_mode_to_padding(model)
    if free is not None:
        free(model)
    to = head_kind(spec.to)
    if to.reads_trained_map and to.elsewhere != "pools":
        drop_identity_pooling(model, name=spec.name, size=spec.size, is_needed=to.has_map)
    lower_placeholders(model)
    reduce_mean_to_global_pool(model)
    reshape_to_flatten(model, spec.size)
    return SizelessGraph(model, weights, is_computed=True, path=path)


def _name_shared_axes(model: onnx.ModelProto, spec: ExportSpec) -> None:
    """Name the axes that other inputs share with the image, so that their shapes follow it."""
    shared = {extra.name: extra.symbols for extra in spec.extra_inputs if extra.rows is None}
    for value in model.graph.input:
        for axis, word in shared.get(value.name, {}).items():
            dim = value.type.tensor_type.shape.dim[axis]
            dim.Clear()
            dim.dim_param = word


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
