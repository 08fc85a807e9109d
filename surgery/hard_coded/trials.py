"""One walk over a graph at several sizes at once, that gives every built-in shape a meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery.graph import Graph, attribute
from anysize.surgery.hard_coded.meanings import Axis, Piece, grows, lengths, meanings
from anysize.surgery.shapes import (
    IllegalSizeError,
    Shape,
    ShapeRun,
    ShapeStep,
    ShapeWalk,
    output_shape,
)
from anysize.surgery.size_guard import is_guard, unguarded

__all__ = [
    "SHAPE_INPUT",
    "WAY_OUT",
    "Attempt",
    "HardCodedWalk",
    "ShapeMeaning",
    "Source",
    "Subject",
    "UnreadableError",
    "shape_text",
]

# Operator → position of the input that is a shape.
SHAPE_INPUT = {"Expand": 1, "Reshape": 1, "Resize": 3}
WAY_OUT = "export the network again, with `anysize export` or with dynamic axes"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a length can be read: an axis of a tensor, or the quotient of one."""

    tensor: str
    axis: int
    divisor: int = 1


@dataclass(frozen=True, slots=True)
class ShapeMeaning:
    """What a node's shape means.

    Attributes:
        axes: Axes of the output that is compared.
        before: Axes of its first input.
        is_as_written: Whether the node says so already.
    """

    axes: tuple[Axis, ...]
    before: tuple[Axis, ...]
    is_as_written: bool


@dataclass(frozen=True, slots=True)
class Subject:
    """What is walked.

    Attributes:
        graph: The graph.
        image: The image that it runs on.
        tensors: Whose axis 0 has to be the batch in the end.
        walk: The nodes that they are computed from.
        names: Tensors of the main graph that are computed from the image.
    """

    graph: Graph
    image: str
    tensors: tuple[str, ...]
    walk: ShapeWalk
    names: frozenset[str]


class UnreadableError(DeclinedError):
    """A shape has no meaning at other sizes."""


@dataclass(slots=True)
class Attempt:
    """One walk, with one choice wherever a shape can be read in several ways.

    Attributes:
        choices: Which was taken, in order.
        counts: Of how many.
        meanings: See `Found`.
        sources: See `Found`.
        error: Why the walk ended early; None where the reading holds.
        is_batch_first: Whether every output that was looked at has the batch on axis 0.
    """

    choices: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    meanings: dict[str, ShapeMeaning] = field(default_factory=dict)
    sources: dict[Piece, Source] = field(default_factory=dict)
    error: DeclinedError | IllegalSizeError | None = None
    is_batch_first: bool = True


class HardCodedWalk:
    """One walk at several sizes at once.

    Args:
        subject: What is walked.
        cases: Sizes and batches, that of the trace first.
        prefix: Which of its meanings to take wherever a shape has several; the first, behind it.
    """

    def __init__(
        self, subject: Subject, cases: Sequence[tuple[Size, int]], prefix: Sequence[int]
    ) -> None:
        self._subject = subject
        self._cases = len(cases)
        self._runs = [subject.walk.start(size, batch) for size, batch in cases]
        self._batch = tuple(batch for _, batch in cases)
        self._prefix = prefix
        self._axes: dict[str, tuple[Axis, ...]] = {}
        self._result = Attempt()
        self._note(subject.image)

    def attempt(self) -> Attempt:
        """Walk to the end, or to where the meanings chosen do not hold."""
        try:
            for step in self._subject.walk.steps:
                made = [name for name in step.node.output if name]
                settled = self._settle(step)
                if settled is None:
                    for run in self._runs:
                        self._subject.walk.advance(step, run)
                    self._carry(step.node)
                else:
                    self._axes[made[0]] = settled
                for name in made:
                    self._note(name)
            self._check_batch()
        except (UnreadableError, IllegalSizeError) as exc:
            if isinstance(exc, IllegalSizeError) and self._is_trained(exc):
                raise
            self._result.error = exc
        return self._result

    def _is_trained(self, exc: IllegalSizeError) -> bool:
        """Say whether the graph fails at the training size already, before anything is read."""
        return not self._result.meanings and exc.size == self._runs[0].size

    def _check_batch(self) -> None:
        for name in self._subject.tensors:
            shapes = self._shapes(name)
            axes = list(zip(*shapes, strict=False)) if shapes is not None else []
            self._result.is_batch_first &= axes[:1] == [self._batch]
            if self._batch not in axes:
                raise UnreadableError(
                    f"{name!r}: no axis follows the batch, which must be built in somewhere; "
                    f"{WAY_OUT}"
                )

    def _shapes(self, name: str) -> list[Shape] | None:
        shapes = [run.shapes.get(name) for run in self._runs]
        known = [shape for shape in shapes if shape is not None]
        return known if len(known) == len(shapes) and len(set(map(len, known))) == 1 else None

    def _note(self, name: str) -> None:
        """Give a tensor's axes their pieces, where nothing is known of them, and remember them."""
        shapes = self._shapes(name)
        if shapes is None or name in self._runs[0].values:
            return
        if name not in self._axes:
            self._axes[name] = tuple((piece,) for piece in zip(*shapes, strict=True))
        if name in self._subject.names:
            for axis, piece in enumerate(zip(*shapes, strict=True)):
                if grows(piece):
                    self._result.sources.setdefault(piece, Source(name, axis))

    def _carry(self, node: onnx.NodeProto) -> None:
        """Let what an axis is a product of go through a node that keeps the axis."""
        befores = [self._axes[name] for name in node.input if name in self._axes]
        shapes = self._shapes(node.output[0]) if node.output else None
        if not befores or shapes is None:
            return
        perm = attribute(node, "perm")
        if node.op_type == "Transpose" and len(befores[0]) == len(shapes[0]):
            order = perm if isinstance(perm, list) else range(len(shapes[0]))[::-1]
            self._axes[node.output[0]] = tuple(befores[0][axis] for axis in order)
            return
        if node.op_type == "Flatten":
            first = int(attribute(node, "axis", 1))  # type: ignore[call-overload]
            first = first + len(befores[0]) if first < 0 else first
            halves = (befores[0][:first], befores[0][first:])
            self._axes[node.output[0]] = tuple(
                tuple(piece for axis in half for piece in axis) for half in halves
            )
            return
        for name in node.output:
            made = self._shapes(name) if name else None
            if made is not None and name not in self._runs[0].values:
                pieces = zip(*made, strict=True)
                self._axes[name] = tuple(
                    self._same(piece, place, befores) for place, piece in enumerate(pieces)
                )

    def _same(self, length: Piece, place: int, befores: Sequence[tuple[Axis, ...]]) -> Axis:
        """Find the axis of an input that an output's axis is, by its lengths."""
        if not grows(length):
            return (length,)
        alike = [axis for axes in befores for axis in axes if lengths(axis, self._cases) == length]
        here = [axes[place] for axes in befores if place < len(axes) and axes[place] in alike]
        distinct = list(dict.fromkeys(here or alike))
        return distinct[0] if len(distinct) == 1 else (length,)

    def _settle(self, step: ShapeStep) -> tuple[Axis, ...] | None:
        """Read a node that was given a shape; None for all others, which the walk advances."""
        node = step.node
        if node.op_type not in SHAPE_INPUT or node.domain not in ("", "ai.onnx"):
            return None
        index = self._subject.graph.producer(node.output[0])
        before = self._axes.get(node.input[0])
        if index is None or before is None or is_guard(self._subject.graph.node(index)):
            return None
        written = self._as_written(step)
        if written is None:
            return None
        trained, as_written = written
        options = self._options(node, before, trained)
        if not options:
            if as_written is not None:
                return None  # it names no size that it does not take
            have = self._runs[0].shapes[node.input[0]]
            raise UnreadableError(
                f"{step.label}: {node.op_type} of {shape_text(have)} to {shape_text(trained)} was "
                f"traced at {self._runs[0].size}, and what that is at other sizes cannot be told; "
                f"{WAY_OUT}",
                node=node.name,
            )
        by_length = {tuple(lengths(a, self._cases) for a in axes): axes for axes in options}
        if node.op_type == "Expand" and as_written is not None and any(map(grows, as_written)):
            own = tuple((length,) for length in as_written)  # it is computed, so most likely right
            by_length = {as_written: own, **by_length}
        alone = None  # a Reshape that takes all sizes as it stands means what it says
        if node.op_type == "Reshape" and as_written is not None:
            alone = by_length.get(as_written)
        axes = self._choose(list(by_length.values())) if alone is None else alone
        made = tuple(lengths(axis, self._cases) for axis in axes)
        for run, shape in zip(self._runs, zip(*made, strict=True), strict=True):
            run.types[node.output[0]] = run.types.get(node.input[0], onnx.TensorProto.FLOAT)
            self._subject.walk.record(step, node.output[0], shape, run)
        if any(grows(piece) for piece in made):
            self._result.meanings[node.output[0]] = ShapeMeaning(axes, before, made == as_written)
        return axes

    def _choose(self, options: Sequence[tuple[Axis, ...]]) -> tuple[Axis, ...]:
        if len(options) == 1:
            return options[0]
        place = len(self._result.choices)
        choice = self._prefix[place] if place < len(self._prefix) else 0
        self._result.choices.append(choice)
        self._result.counts.append(len(options))
        return options[choice]

    def _as_written(self, step: ShapeStep) -> tuple[Shape, tuple[Piece, ...] | None] | None:
        """Return the shape at the training size, and the lengths where the node takes all sizes."""
        found: list[Shape | None] = []
        for run in self._runs:
            try:
                found.append(_written(step.node, run))
            except ValueError:
                if not found:
                    return None  # nothing that a trace has left behind
                found.append(None)
        trained = found[0]
        if trained is None:
            return None
        known = [shape for shape in found if shape is not None]
        if len(known) < len(found) or len(set(map(len, known))) > 1:
            return trained, None
        return trained, tuple(zip(*known, strict=True))

    def _options(
        self, node: onnx.NodeProto, before: tuple[Axis, ...], trained: Shape
    ) -> list[tuple[Axis, ...]]:
        if node.op_type == "Reshape":
            if not any(grows(piece) for axis in before for piece in axis):
                return [tuple(((side,) * self._cases,) for side in trained)]
            found = list(meanings(before, trained))
            for axes in found:
                self._divide(before, axes)
            return found
        if len(before) != len(trained):
            return []
        options = list(self._pairs(trained))
        if node.op_type == "Resize":
            options += self._scales(node, before, trained)
            return [(*before[:2], *sides) for sides in dict.fromkeys(options)]
        options.append(tuple(((side,) * self._cases,) for side in trained[2:]))
        return [self._expanded(before, sides, trained) for sides in dict.fromkeys(options)]

    def _divide(self, before: Sequence[Axis], after: Sequence[Axis]) -> None:
        """Remember from what the parts of a cut extent can be computed."""
        sources = self._result.sources
        for whole in (piece for axis in before for piece in axis if piece in sources):
            for part in (piece for axis in after for piece in axis if piece not in sources):
                ratio = whole[0] // part[0]
                if grows(part) and tuple(length * ratio for length in part) == whole:
                    at = sources[whole]
                    sources[part] = Source(at.tensor, at.axis, at.divisor * ratio)

    def _pairs(self, trained: Shape) -> list[tuple[Axis, ...]]:
        """List the heights and widths of earlier maps that were that large when traced.

        Of three axes, the last may be as long as any that follows the image.
        """
        if len(trained) == 3:
            earlier = (lengths(axis, self._cases) for axes in self._axes.values() for axis in axes)
            grown = (piece for piece in earlier if piece[0] == trained[2] and grows(piece))
            return [((piece,),) for piece in dict.fromkeys(grown)]
        if len(trained) != 4:
            return []
        maps = [axes[2:] for axes in self._axes.values() if len(axes) == 4]
        sides = [tuple(lengths(axis, self._cases) for axis in pair) for pair in maps]
        return [
            tuple((side,) for side in pair)
            for pair in sides
            if tuple(side[0] for side in pair) == trained[2:] and any(map(grows, pair))
        ]

    def _scales(
        self, node: onnx.NodeProto, before: Sequence[Axis], trained: Shape
    ) -> list[tuple[Axis, ...]]:
        """List what else a Resize may be: to a fixed size, or by a whole factor, up or down."""
        fixed = tuple(((side,) * self._cases,) for side in trained[2:])
        if unguarded(self._subject.graph, node.input[0]) == self._subject.image:
            return [fixed]  # the image is brought to the training size: the head `resize`
        have = [lengths(axis, self._cases) for axis in before[2:]]
        if (part := self._part(have, trained[2:])) is not None:
            return [fixed, part]
        factors = [side // h[0] for h, side in zip(have, trained[2:], strict=True)]
        whole = all(h[0] * f == s for h, f, s in zip(have, factors, trained[2:], strict=True))
        if not whole or not any(map(grows, have)):
            return [fixed]
        scaled = tuple(
            (h, (factor,) * self._cases) if factor > 1 else (h,)
            for h, factor in zip(have, factors, strict=True)
        )
        return [fixed, scaled]

    def _part(self, have: Sequence[Piece], target: Shape) -> tuple[Axis, ...] | None:
        """Return the sides divided by one whole number, if that is what a Resize may be."""
        ratio = have[0][0] // target[0] if have and target[0] else 0
        is_part = ratio > 1 and all(h[0] == ratio * t for h, t in zip(have, target, strict=True))
        if not is_part or not any(map(grows, have)):
            return None
        sources, parts = self._result.sources, []
        for whole in have:
            part = tuple(length // ratio for length in whole)
            parts.append((part,))
            if whole in sources and grows(part):
                at = sources[whole]
                sources.setdefault(part, Source(at.tensor, at.axis, at.divisor * ratio))
        return tuple(parts)

    def _expanded(
        self, before: Sequence[Axis], sides: Sequence[Axis], trained: Shape
    ) -> tuple[Axis, ...]:
        """Return the axes of an Expand: those of its input, where that is not 1 long."""
        wanted = [*(((side,) * self._cases,) for side in trained[:2]), *sides]
        return tuple(
            axis if lengths(axis, self._cases)[0] == side else new
            for axis, side, new in zip(before, trained, wanted, strict=True)
        )


def _written(node: onnx.NodeProto, run: ShapeRun) -> Shape | None:
    """Return what a node's shape says in one run; None where it has none, or none that is known.

    Raises:
        ValueError: The node does not take its input.
    """
    shape = run.shapes.get(node.input[0])
    if shape is None or any(name in run.values for name in node.output):
        return None
    values = [run.values.get(name) for name in node.input]
    if node.op_type != "Resize":
        return output_shape(node, [shape, *(None for _ in values[1:])], values)
    position = SHAPE_INPUT["Resize"]
    sizes = values[position] if len(values) > position else None
    is_plain = (
        attribute(node, "axes") is None
        and attribute(node, "keep_aspect_ratio_policy", "stretch") == "stretch"
    )
    if sizes is None or not is_plain or sizes.size != len(shape):
        return None
    target = tuple(int(side) for side in np.ravel(sizes))
    if target[:2] != shape[:2]:
        raise ValueError(f"batch and channels are {shape[:2]}, expected {target[:2]}")
    return target


def shape_text(shape: Sequence[int]) -> str:
    """Write a shape as messages have it."""
    return f"({', '.join(str(side) for side in shape)})"
