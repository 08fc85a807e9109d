"""Text that has to stay short: what matters most is kept, and what is left out is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Block", "fit"]


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a text.

    Attributes:
        text: With its line breaks.
        kind: What it is, in the plural, to be counted where it is left out.
        rank: The lowest ones are kept first; of the same rank, the earlier ones.
        after: Place of an earlier block, without which this one is left out too; None for none.
    """

    text: str
    kind: str
    rank: int
    after: int | None = None


def fit(blocks: Sequence[Block], most: int) -> tuple[str, Counter[str]]:
    """Join the blocks that `most` characters have room for, in their order.

    Returns:
        The text, and how many blocks of each kind are left out.
    """
    kept: set[int] = set()
    left = most
    for place in sorted(range(len(blocks)), key=lambda place: blocks[place].rank):
        block = blocks[place]
        if len(block.text) <= left and (block.after is None or block.after in kept):
            kept.add(place)
            left -= len(block.text)
    text = "".join(block.text for place, block in enumerate(blocks) if place in kept)
    return text, Counter(b.kind for place, b in enumerate(blocks) if place not in kept)
