"""Which heads a graph can get, and what each of them means, found by trying."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anysize.errors import AnysizeError
from anysize.heads import HEAD_KINDS
from anysize.sizes import Size, SizeRange

if TYPE_CHECKING:
    from anysize.surgery.graph import Graph

__all__ = ["NextHead", "next_heads"]

# What the answer at other sizes is, by what the head does with them.
_MEANINGS = {
    "windows": "exact: each cell of the map is the network on its window of the image",
    "pools": "exact at {size}; elsewhere its trained layers see a pooled map, an approximation",
    "resizes": "exact at {size}; elsewhere the network sees the image resized to that",
    "": "exact: no layer changes, and it means at each size what the layers do there",
}
_OF_MEANS = "exact: a window over the whole map becomes the global average"
_OF_POOLED = "exact: the logits stay, and the map is their share from each cell"


@dataclass(frozen=True, slots=True)
class NextHead:
    """A head that a graph can get, on the weights that it has.

    Attributes:
        head: As `--to` or `--head` takes it.
        command: The command line that writes it.
        meaning: Whether its answers are exact, and which are not.
        sizes: The images that it takes.
        outputs: Name and shape of each output.
    """

    head: str
    command: str
    meaning: str
    sizes: SizeRange
    outputs: tuple[str, ...]


def next_heads(
    graph: Graph,
    size: Size | None,
    *,
    command: Callable[[str], str],
    describe: Callable[..., str],
) -> tuple[NextHead, ...]:
    """Try every target of a rewrite on a graph, which stays as it is.

    Args:
        graph: Its weights are not read.
        size: The training size, where it is known.
        command: Head → the command line that writes it.
        describe: Writes name and shape of an output.
    """
    found = []
    for kind in HEAD_KINDS.values():
        with contextlib.suppress(AnysizeError):
            if kind.target is not None:
                found.append(_tried(graph, size, kind.target, command, describe))
    return tuple(one for one in found if one is not None)


def _tried(
    graph: Graph,
    size: Size | None,
    target: str,
    command: Callable[[str], str],
    describe: Callable[..., str],
) -> NextHead | None:
    from anysize.surgery import fixed_axes, rewrite

    if target == "dynamic" and not fixed_axes(graph):
        return None
    done = rewrite(graph.light(), to=target, size=size, in_place=True)
    if not done.applied or done.sizes is None:
        return None
    return NextHead(
        head=target,
        command=command(target),
        meaning=_meaning(target).format(size=done.size or "its training size"),
        sizes=done.sizes,
        outputs=tuple(describe(output) for output in done.model.graph.output),
    )


def _meaning(target: str) -> str:
    kind = next(one for one in HEAD_KINDS.values() if one.target == target)
    if kind.averages_map:
        return _OF_POOLED if kind.has_map else _OF_MEANS
    return _MEANINGS[kind.elsewhere]
