"""Find, decide, try, rewrite: the one way in which a file's head is changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from anysize.errors import DeclinedError, ModelFileError, UsageError
from anysize.files import file_sha256
from anysize.heads import check_output
from anysize.sizes import Size, SizeRange
from anysize.surgery.axes import free_axes
from anysize.surgery.geometry import MapGeometry, map_geometry
from anysize.surgery.graph import Graph, Model, Trial, image_input, require_sides_together
from anysize.surgery.graphsurgeon import from_graphsurgeon, is_graphsurgeon, to_graphsurgeon
from anysize.surgery.heads import Head
from anysize.surgery.metadata import FileMetadata, read_metadata, write_metadata
from anysize.surgery.passes import free_numbers, keep_same_padding
from anysize.surgery.shapes import IllegalSizeError, Shape, infer_shapes, shape_walk
from anysize.surgery.size_guard import without_guards
from anysize.surgery.storage import HeldWeights, check
from anysize.surgery.targets import TARGETS, NotNeeded, Output, Rewritten
from anysize.version import VERSION

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

__all__ = ["Rewrite", "rewrite"]

_OTHER_BATCH = 3
_SIDES = ("map_height", "map_width")
# What the file records of its head, where that is not what it was rewritten to.
_RECORDED = {"dynamic": "as-is"}


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The outcome of a rewrite.

    Attributes:
        model: The rewritten model, or the one given where nothing was to be done; a graph of
            onnx-graphsurgeon where that was given.
        applied: Whether the head was rewritten.
        reason: Why not; empty where it was.
        head: The head as it was found in the original.
        size: The training size that was used.
        sizes: The images that the rewritten graph takes.
        geometry: How the map lies on the image; None where that is unknown.
        map_tensor: The tensor of the rewritten graph that is the dense map, before any Softmax.
        notes: What the user should know about the graph.
        moved: For each weight whose bytes could not stay in place, why.
    """

    model: onnx.ModelProto | gs.Graph
    applied: bool
    reason: str = ""
    head: Head | None = None
    size: Size | None = None
    sizes: SizeRange | None = None
    geometry: MapGeometry | None = None
    map_tensor: str = ""
    notes: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()

    @property
    def min_size(self) -> Size | None:
        """The smallest image that the rewritten graph takes."""
        return self.sizes.minimum if self.sizes is not None else None


def rewrite(
    model: Model | gs.Graph,
    *,
    to: str = "fcn",
    size: Size | None = None,
    output: Output = "map",
    keep: Collection[str] = (),
    declines_numbers: bool = True,
    source: Path | HeldWeights | None = None,
    in_place: bool = False,
) -> Rewrite:
    """Rewrite a fixed-size classifier as a graph that takes any image size, on the same weights.

    The plan is tried and checked on a copy without weights first: a rewrite that declines leaves
    `model` untouched, with `in_place` too. IR version, opset, metadata and every node outside the
    head stay as they are.

    Args:
        model: The classifier, as `load_model` gives it, or as a graph of onnx-graphsurgeon.
        to: The head to rewrite to: `fcn`, convolutions instead of fully connected layers; `cam`,
            the linear layer before the global average instead of behind it; `gap`, a global
            average instead of one over a window as large as the trained map; `adaptive`, the
            feature map pooled to its trained size; `resize`, the image resized to its own;
            `dynamic`, nothing but free axes, for a graph whose layers take any size.
        size: The training size; what the file declares or records, by default.
        output: `map` makes each output its dense map; `logits` the mean over the map's cells,
            taken before a Softmax, LogSoftmax or ArgMax; `both` adds the output `map` to that.
            For all others, whose outputs stay what they are, only the default.
        keep: Nodes, by their name or that of what they make, whose numbers are constants of the
            network; where one could stem from the training size, the rewrite declines otherwise.
        declines_numbers: Whether it does so, or leaves such a number as it is, for a comparison
            with the module to judge.
        source: The file that `model` was loaded from, recorded by its hash, or what holds its
            weights; needed where weights must move that the model does not hold itself.
        in_place: Edit `model` itself, which saves a copy of its inline weights. A graph of
            onnx-graphsurgeon is never edited.

    Returns:
        The outcome; a graph that takes any size already is not applied, with the reason.

    Raises:
        DeclinedError: The rewrite would have to guess; the message names the node.
        IllegalSizeError: The graph does not take images of `size`.
        UsageError: `to` or `output` is none that is offered, or no node is called as `keep` says.
    """
    if to not in TARGETS:
        raise UsageError(f"rewrite to {to!r}: expected {', '.join(TARGETS)}")
    check_output(output)
    place = source.parent if isinstance(source, Path) else source
    if is_graphsurgeon(model):
        theirs = from_graphsurgeon(model)
        outcome = rewrite(
            theirs,
            to=to,
            size=size,
            output=output,
            keep=keep,
            declines_numbers=declines_numbers,
            source=source,
            in_place=True,
        )
        result = to_graphsurgeon(outcome.model, place) if outcome.applied else model
        return replace(outcome, model=result)
    original = Graph.of(model)
    require_sides_together(original)
    recorded = read_metadata(original)
    _check_declared(recorded, size)
    _check_kept(original, keep)
    trial = Trial(original)
    done = TARGETS[to](trial, size, output)
    if isinstance(done, NotNeeded):
        return Rewrite(original.model, applied=False, reason=done.reason)
    if size is not None and done.size != size:
        note = f"the file declares {done.size}, which is its training size; {size} was not needed"
        done = replace(done, notes=(*done.notes, note))
    following = _prove_free(trial, done.size, done.sizes)
    if to != "resize":  # there the layers see the training size, whatever the image
        done = _without_numbers(trial, done, keep, declines=declines_numbers)
    free = {side: side not in done.sizes.fixed_sides for side in ("height", "width")}
    free_axes(trial, fixed=following, others=following, **free)
    geometry = map_geometry(trial, done.map_tensor) if done.map_tensor else None
    metadata = replace(
        recorded.with_sizes(done.sizes),
        version=VERSION,
        head=_RECORDED.get(to, to),
        size=None if done.is_size_assumed else done.size,
        classes=done.classes,
        map_stride=geometry.stride if geometry else None,
        map_offset=geometry.offset if geometry else None,
        receptive_field=geometry.receptive_field if geometry else None,
        source_sha256=file_sha256(source) if isinstance(source, Path) else None,
        kept=tuple(keep) or recorded.kept,
    )
    _check(trial, metadata)
    result = original if in_place else Graph(onnx.ModelProto())
    if not in_place:
        result.model.CopyFrom(original.model)
    trial.repeat_on(result, place)
    free_axes(result, fixed=following, others=following, **free)
    write_metadata(result, metadata)
    return Rewrite(
        result.model,
        applied=True,
        head=done.head,
        size=done.size,
        sizes=done.sizes,
        geometry=geometry,
        map_tensor=done.map_tensor,
        notes=done.notes,
        moved=tuple(recipe.reason for edits in trial.edits for recipe in edits.derived),
    )


def _without_numbers(
    trial: Trial, done: Rewritten, keep: Collection[str], *, declines: bool
) -> Rewritten:
    """Free the numbers that stem from the traced size, or the sizes of them."""
    if declines:
        sizes, notes = keep_same_padding(trial, done.size, done.sizes, tensors=done.kept, keep=keep)
        done = replace(done, sizes=sizes, notes=(*done.notes, *notes))
    free_numbers(trial, done.size, done.sizes, tensors=done.kept, keep=keep, declines=declines)
    return done


def _check_declared(metadata: FileMetadata, size: Size | None) -> None:
    """Refuse a training size that the file itself says it does not take."""
    declared = metadata.sizes
    if size is not None and declared is not None and size not in declared:
        raise UsageError(f"size {size}: the file says that it takes {declared}; leave --size out")


def _check_kept(graph: Graph, keep: Collection[str]) -> None:
    known = {name for index in range(len(graph.nodes)) for name in graph.names(index)}
    for name in keep:
        if name not in known:
            raise UsageError(f"keep {name!r}: the graph has no node of that name")


def _check(trial: Graph, metadata: FileMetadata) -> None:
    write_metadata(trial, metadata)
    try:
        check(trial.model)
    except ModelFileError as exc:
        raise DeclinedError(f"the rewritten graph would be invalid: {exc}") from exc


def _prove_free(trial: Graph, size: Size, sizes: SizeRange) -> dict[str, dict[int, str]]:
    """Decline where a node holds on to the batch or the size of the trace.

    Returns:
        Output → its axes that follow the batch, height and width of the images, with names.
    """
    trial = without_guards(trial, "max")  # a bound that the user wants is no trace
    trained = infer_shapes(trial, size)
    batched = _walked(trial, size, _OTHER_BATCH, "batch")
    larger = _walked(trial, sizes.larger(size), 1, "height and width")
    named: dict[str, dict[int, str]] = {}
    for output in trial.model.graph.output:
        shapes = [found.get(output.name, ()) for found in (trained, batched, larger)]
        axis = _batch_axis(*shapes)
        if axis is None:
            raise _built_in(trial, output.name, batched)
        if _rank(output) == len(shapes[0]):
            named[output.name] = _following(output, axis, shapes[0], shapes[2])
    return named


def _walked(graph: Graph, size: Size, batch: int, what: str) -> Mapping[str, Shape]:
    try:
        return shape_walk(graph).run(size, batch).shapes
    except IllegalSizeError as exc:
        raise DeclinedError(
            f"{exc}; the {what} of the original file must be built in there", node=exc.node
        ) from exc


def _batch_axis(trained: Shape, batched: Shape, larger: Shape) -> int | None:
    """Return the axis of an output that follows the batch, and nothing else; None without one."""
    if not len(trained) == len(batched) == len(larger):
        return None
    lengths = list(zip(trained, batched, larger, strict=True))
    return lengths.index((1, _OTHER_BATCH, 1)) if (1, _OTHER_BATCH, 1) in lengths else None


def _rank(output: onnx.ValueInfoProto) -> int:
    return len(output.type.tensor_type.shape.dim)


def _following(
    output: onnx.ValueInfoProto, batch: int, shape: Shape, larger: Shape
) -> dict[int, str]:
    """Name the batch, and the axes that are longer for a larger image; both sides of a map."""
    axes = [axis for axis in range(len(shape)) if shape[axis] != larger[axis]]
    if len(shape) != 4:
        dims = output.type.tensor_type.shape.dim
        named = {axis: f"{output.name}_axis_{axis}" for axis in axes}
        # The map of an ArgMax has lost its classes.
        named |= {axis: dims[axis].dim_param for axis in axes if dims[axis].dim_param in _SIDES}
        return {batch: "batch", **named}
    if axes in ([2], [3]):
        axes = [2, 3]
    return {batch: "batch", **dict(zip(axes, _SIDES, strict=False))}


def _built_in(graph: Graph, output: str, shapes: Mapping[str, Shape]) -> DeclinedError:
    """Name the first node that loses the batch, or whose shape cannot be followed."""
    behind = sorted(graph.downstream(image_input(graph.model).name))
    if not any(output in graph.node(index).output for index in behind):
        return DeclinedError(
            f"output {output!r} does not depend on the image, so it has no batch; leave it out "
            "(onnx.utils.extract_model)"
        )
    label, name = "the graph", ""
    for index in behind:
        node = graph.node(index)
        before, after = shapes.get(node.input[0]), shapes.get(node.output[0])
        is_lost = before is not None and len(before) > 1 and before[0] == _OTHER_BATCH
        is_lost = is_lost and node.op_type not in ("Shape", "Size")
        if is_lost and (after is None or not after or after[0] != _OTHER_BATCH):
            label, name = graph.label(index), node.name
            break
    return DeclinedError(f"{label}: the batch of the original file is built in there", node=name)
