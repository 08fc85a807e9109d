"""Finding what a graph holds on to of the image that it was traced with.

The graph is walked at several sizes and batches at once. Wherever a Reshape, an Expand or a Resize
was given numbers, it is worked out what they can mean at every size (`meanings`), and the walk goes
on with that. A reading holds where the whole graph then takes all the sizes and
keeps the images apart; where two different ones hold, the file does not say which was meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery.graph import Graph, image_input
from anysize.surgery.hard_coded.meanings import Piece, grows, lengths
from anysize.surgery.hard_coded.trials import (
    WAY_OUT,
    Attempt,
    HardCodedWalk,
    ShapeMeaning,
    Source,
    Subject,
    UnreadableError,
    shape_text,
)
from anysize.surgery.shapes import IllegalSizeError, shape_walk
from anysize.surgery.size_guard import without_guards

__all__ = ["Follows", "Found", "find_hard_coded"]

# What a rewritten graph takes other than at the training size.
Follows = Literal["batch", "size and batch", "height and batch", "width and batch"]

_MOST_WALKS = 64


@dataclass(frozen=True, slots=True)
class Found:
    """The one reading of a graph that holds.

    Attributes:
        meanings: For the output of each node with a shape that follows the image, its meaning.
        sources: For each extent of the image, where its length can be read.
        cases: How many sizes were walked.
    """

    meanings: Mapping[str, ShapeMeaning]
    sources: Mapping[Piece, Source]
    cases: int


def find_hard_coded(
    graph: Graph,
    size: Size,
    *,
    tensors: Sequence[str] = (),
    follows: Follows = "size and batch",
) -> Found | str:
    """Work out what every shape that was given as numbers means.

    Args:
        graph: Not modified; its weights are not read.
        size: The training size.
        tensors: Look only at what these are computed from; the graph's outputs by default.
        follows: What images are to differ in.

    Returns:
        What was found; or, where the graph takes no other size for another reason, that reason.

    Raises:
        DeclinedError: A shape can mean different things, or nothing; the node is named.
        IllegalSizeError: The graph does not take images of `size`.
    """
    what = ("hard coded", size, tuple(tensors), follows)
    return graph.found(what, lambda: _find_hard_coded(graph, size, tensors, follows))


def _find_hard_coded(
    graph: Graph, size: Size, tensors: Sequence[str], follows: Follows
) -> Found | str:
    trial = without_guards(graph, "min", "max", "map", "steps")
    image = image_input(trial.model).name
    made = {name for node in trial.nodes for name in node.output}
    subject = Subject(
        graph=trial,
        image=image,
        tensors=tuple(tensors) or tuple(output.name for output in trial.model.graph.output),
        walk=shape_walk(trial, tensors),
        names=frozenset(made | {image}),
    )
    declared = image_input(graph.model).type.tensor_type.shape.dim[0].dim_value
    cases = [(size, declared if declared > 0 else 1), *_cases(size, follows)]
    others = _odd_cases(size, follows) if follows != "batch" else []
    return _Search(subject).run([*cases, *others], () if not others else cases)


def _cases(size: Size, follows: Follows) -> list[tuple[Size, int]]:
    """Choose multiples of the training size: what divides that divides them."""
    if follows == "batch":
        return [(size, 3), (size, 5)]
    height, width = size.height, size.width
    return _along(
        size, follows, [(Size(2 * height, 3 * width), 3), (Size(5 * height, 2 * width), 5)]
    )


def _odd_cases(size: Size, follows: Follows) -> list[tuple[Size, int]]:
    """Choose sizes at which halving rounds differently from halving upwards, many times over."""
    height, width = size.height, size.width
    odd = [(Size(2 * height - 1, 3 * width + 1), 7), (Size(3 * height + 1, 2 * width - 1), 2)]
    return _along(size, follows, odd)


def _along(size: Size, follows: Follows, cases: list[tuple[Size, int]]) -> list[tuple[Size, int]]:
    """Leave the side as it is that images are not to differ in."""
    if follows == "height and batch":
        return [(Size(one.height, size.width), batch) for one, batch in cases]
    if follows == "width and batch":
        return [(Size(size.height, one.width), batch) for one, batch in cases]
    return cases


class _Search:
    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def run(
        self, cases: Sequence[tuple[Size, int]], fewer: Sequence[tuple[Size, int]]
    ) -> Found | str:
        """Try every reading in all cases; where none holds, in fewer of them."""
        attempts = self._attempts(cases)
        holding = [attempt for attempt in attempts if attempt.error is None]
        holding = [attempt for attempt in holding if attempt.is_batch_first] or holding
        if not holding and fewer:
            return self.run(fewer, ())
        if not holding:
            unreadable = [a.error for a in attempts if isinstance(a.error, UnreadableError)]
            if unreadable:
                raise unreadable[0]
            return str(attempts[0].error)
        for other in holding[1:]:
            self._refuse_difference(holding[0], other, cases)
        for other in attempts:
            if isinstance(other.error, IllegalSizeError):
                self._refuse_doubt(holding[0], other, cases)
        return Found(holding[0].meanings, holding[0].sources, len(cases))

    def _attempts(self, cases: Sequence[tuple[Size, int]]) -> list[Attempt]:
        attempts: list[Attempt] = []
        pending: list[tuple[int, ...]] = [()]
        while pending:
            prefix = pending.pop()
            attempt = HardCodedWalk(self._subject, cases, prefix).attempt()
            attempts.append(attempt)
            for place in range(len(prefix), len(attempt.counts)):
                kept = tuple(attempt.choices[:place])
                pending += [(*kept, other) for other in range(1, attempt.counts[place])]
            if len(attempts) + len(pending) > _MOST_WALKS:
                raise DeclinedError(
                    "the shapes that are built in can be read in more than "
                    f"{_MOST_WALKS} ways; {WAY_OUT}"
                )
        return attempts

    def _refuse_difference(
        self, one: Attempt, other: Attempt, cases: Sequence[tuple[Size, int]]
    ) -> None:
        for name, meaning in one.meanings.items():
            twin = other.meanings.get(name)
            if twin is None:
                continue
            of_one, of_other = _sides(meaning, len(cases)), _sides(twin, len(cases))
            if of_one == of_other:
                continue
            graph = self._subject.graph
            index = graph.producer(name) or 0
            node, (size, batch) = graph.node(index), cases[1]
            trained, first, second = (
                shape_text(shape) for shape in (of_one[0], of_one[1], of_other[1])
            )
            raise DeclinedError(
                f"{graph.label(index)}: {node.op_type} to {trained} may mean {first} or {second} "
                f"at {size} and batch {batch}, and both fit the graph; {WAY_OUT}",
                node=node.name,
            )

    def _refuse_doubt(
        self, one: Attempt, other: Attempt, cases: Sequence[tuple[Size, int]]
    ) -> None:
        """Decline where what was one cell long has another place in a reading that fails.

        Such a file does not say whether its network takes other sizes.
        """
        batch = tuple(batch for _, batch in cases)
        for name, meaning in one.meanings.items():
            twin = other.meanings.get(name)
            if twin is None or batch == () or not _has_moved(meaning, twin, apart_from=batch):
                continue
            graph = self._subject.graph
            index = graph.producer(name) or 0
            node = graph.node(index)
            before, after = (
                shape_text(next(zip(*(lengths(a, 1) for a in axes), strict=True)))
                for axes in (meaning.before, meaning.axes)
            )
            raise UnreadableError(
                f"{graph.label(index)}: {node.op_type} of {before} to {after} may join the side of "
                f"one cell with either neighbour, and with one of them {other.error}; {WAY_OUT}",
                node=node.name,
            )


def _has_moved(one: ShapeMeaning, other: ShapeMeaning, *, apart_from: Piece) -> bool:
    """Say whether the same pieces, the batch left out, lie on other axes."""

    def placed(meaning: ShapeMeaning) -> list[tuple[Piece, int]]:
        return [(piece, place) for place, axis in enumerate(meaning.axes) for piece in axis]

    pairs = list(zip(placed(one), placed(other), strict=False))
    is_same = all(mine[0] == theirs[0] for mine, theirs in pairs)
    return is_same and any(
        mine[1] != theirs[1] and mine[0] != apart_from and grows(mine[0]) for mine, theirs in pairs
    )


def _sides(meaning: ShapeMeaning, cases: int) -> tuple[tuple[int, ...], ...]:
    """Return the shape that a reading has in each case."""
    return tuple(zip(*(lengths(axis, cases) for axis in meaning.axes), strict=True))
