"""Where a module can be cut at its feature map: worked out from the calls of one forward pass.

A value through which everything flows that reaches the outputs splits the pass in two. The last one
of four axes before the flatten is the feature map; a global average behind it makes its head one
that works cell by cell, since the average of one cell is the cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass

from anysize.errors import DeclinedError
from anysize.validators.references.eager.calls import Call, Recording

__all__ = ["Cut", "find_cut"]

# Leave every number of a map where it is, or move it to another place of the same cell.
_TRANSPARENT = frozenset(
    {
        "alpha_dropout", "clone", "contiguous", "detach", "dropout", "dropout1d", "dropout2d",
        "dropout_", "feature_dropout", "movedim", "permute", "to", "transpose",
    }
)  # fmt: skip
_ADAPTIVE = frozenset({"adaptive_avg_pool2d", "adaptive_max_pool2d"})
_WINDOWS = frozenset({"avg_pool2d"})
_AVERAGES = _WINDOWS | {"adaptive_avg_pool2d", "mean"}
_TAILS = frozenset({"argmax", "log_softmax", "softmax"})
_RESHAPES = frozenset({"flatten", "reshape", "unflatten", "view"})


@dataclass(frozen=True, slots=True)
class Cut:
    """A pass in two halves; places count the calls that make tensors, −1 is the image.

    Attributes:
        map_at: The call that makes the feature map.
        entry_at: The call whose result a window is put in for: the same, or a global average.
        entry_shape: Shape of that result, without the batch.
        window: Height and width of the map that the head takes; 1×1 behind a global average.
        scores_at: The call whose result the only output's Softmax, LogSoftmax or ArgMax reads;
            None without one.
        names: Of the calls up to `entry_at`: what a pass at another size has to repeat.
    """

    map_at: int
    entry_at: int
    entry_shape: tuple[int, ...]
    window: tuple[int, int]
    scores_at: int | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """A value that everything flows through, and the call that makes it."""

    value: int
    made_at: int


def find_cut(recording: Recording, *, slides_windows: bool = False) -> Cut:
    """Find the feature map of a classifier and where its head begins.

    Args:
        recording: One forward pass.
        slides_windows: An average over a window, which happens to be the whole map, is a layer of
            the features, that slides over a larger map; it stands for a global one otherwise.

    Raises:
        DeclinedError: No one map dominates the outputs, or the head behind it has convolutions or
            poolings of its own.
    """
    if not recording.outputs:
        raise DeclinedError("its outputs do not come from the image by calls that can be followed")
    chain = tuple(_dominators(recording))
    shapes, calls = recording.shapes, recording.calls
    maps = [place for place, step in enumerate(chain) if len(shapes[step.value]) == 4]
    first = last = maps[-1]
    while first > 0 and _is_transparent(recording, chain[first - 1], chain[first]):
        first -= 1
    averages = _AVERAGES - _WINDOWS if slides_windows else _AVERAGES
    pooled = _averaged(recording, chain, first, last, averages)
    entry = first
    if pooled is not None:
        first, entry = pooled
    before, behind = chain[first], chain[entry]
    needed = _last_uses(recording)
    for call in calls[behind.made_at + 1 :]:
        if not needed.keys().isdisjoint(call.outputs):
            _refuse_spatial(recording, call)
    _, _, height, width = shapes[before.value]
    return Cut(
        map_at=before.made_at,
        entry_at=behind.made_at,
        entry_shape=shapes[behind.value][1:],
        window=(1, 1) if pooled is not None else (height, width),
        scores_at=_scores(recording, chain),
        names=tuple(call.name for call in calls[: behind.made_at + 1]),
    )


def _last_uses(recording: Recording) -> dict[int, int]:
    """Return for each such value the last call that uses it; behind all calls for the outputs."""
    last_use = dict.fromkeys(recording.outputs, len(recording.calls))
    for place in reversed(range(len(recording.calls))):
        call = recording.calls[place]
        if not last_use.keys().isdisjoint(call.outputs):
            for value in call.inputs:
                last_use.setdefault(value, place)
    return last_use


def _dominators(recording: Recording) -> Iterator[_Step]:
    """Yield the values that alone carry everything on to the outputs, in order."""
    last_use = _last_uses(recording)
    needed = set(last_use)
    live = {0}
    yield _Step(0, -1)
    for place, call in enumerate(recording.calls):
        made = needed.intersection(call.outputs)
        if not made:
            continue
        live = {value for value in live if last_use[value] > place} | made
        is_replaceable = len(call.outputs) == 1 and not call.is_in_place_only
        if live == made and is_replaceable:
            yield _Step(next(iter(made)), place)


def _is_transparent(recording: Recording, before: _Step, after: _Step) -> bool:
    """Whether `after` is the map `before`, perhaps in another order or flattened to 1×1 cells."""
    call = recording.calls[after.made_at]
    if call.inputs != (before.value,) or len(recording.shapes[before.value]) != 4:
        return False
    if call.name in _ADAPTIVE:
        return recording.shapes[before.value] == recording.shapes[after.value]
    if call.name in _RESHAPES:
        return recording.shapes[after.value][2:] == (1, 1)
    return call.name in _TRANSPARENT


def _averaged(
    recording: Recording,
    chain: tuple[_Step, ...],
    first: int,
    last: int,
    averages: Set[str],
) -> tuple[int, int] | None:
    """Find an average over the whole map: the places of the map and of its average in the chain.

    Whether the average is one of all cells, and of nothing else, is left to the numbers.
    """
    shapes, calls = recording.shapes, recording.calls
    made = chain[first]
    if first > 0 and shapes[made.value][2:] == (1, 1) and calls[made.made_at].name in averages:
        before = first - 1
        return (before, first) if calls[made.made_at].inputs == (chain[before].value,) else None
    for place in range(last + 1, len(chain)):
        name, rank = calls[chain[place].made_at].name, len(shapes[chain[place].value])
        if name == "mean" and rank == 2:
            return first, place
        if name != "mean" and (name not in _RESHAPES or rank != 3):
            return None
    return None


def _refuse_spatial(recording: Recording, call: Call) -> None:
    is_moved = call.name in _TRANSPARENT
    for value in call.outputs:
        shape = recording.shapes[value]
        is_kept = call.name in _ADAPTIVE and shape == recording.shapes[call.inputs[0]]
        if len(shape) == 4 and shape[2] * shape[3] > 1 and not is_moved and not is_kept:
            raise DeclinedError(
                f"no single feature map leads to the outputs: {call.name} makes another one, "
                f"{'x'.join(map(str, shape[1:]))}, behind the last that all of them read"
            )


def _scores(recording: Recording, chain: tuple[_Step, ...]) -> int | None:
    if len(recording.outputs) != 1 or len(chain) < 2:
        return None
    is_tail = recording.calls[chain[-1].made_at].name in _TAILS
    return chain[-2].made_at if is_tail else None
