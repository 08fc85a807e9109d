"""What the axes of a tensor inside a head mean: batch, features, height, width, or nothing.

Exporters move the axes about (Flatten, Reshape, Squeeze, Unsqueeze, Transpose) in more ways than
can be listed. A layout follows what each move does to the feature map's four axes, so that every
spelling of a flatten, whatever its order, is one and the same thing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

__all__ = ["Layout"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The axes of a tensor, in letters: N batch, C channels or features, H height, W width.

    Attributes:
        axes: For each axis the letters that lie on it, in row-major order; "" for an axis of
            length 1 that means nothing. A map is `("N", "C", "H", "W")`, flattened by Keras
            `("N", "HWC")`, the output of a fully connected layer `("N", "C")`.
        batch: Length of N at the training size.
        channels: Length of C; 0 where nobody asked.
        height: Length of H.
        width: Length of W.
    """

    axes: tuple[str, ...]
    batch: int = 1
    channels: int = 0
    height: int = 1
    width: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(self.count(letters) for letters in self.axes)

    def count(self, letters: str) -> int:
        """Return the product of the lengths of `letters`."""
        return math.prod(self._length(letter) for letter in letters)

    def axis_of(self, letter: str) -> int | None:
        """Return the axis that `letter` lies on; None where the tensor has lost it."""
        return next((i for i, letters in enumerate(self.axes) if letter in letters), None)

    @property
    def has_positions(self) -> bool:
        """Whether the tensor is still the feature map, in some order."""
        return self.axis_of("H") is not None or self.axis_of("W") is not None

    def takes(self, other: Layout) -> bool:
        """Say whether a tensor of layout `other` can be broadcast to this one, axis by axis."""
        return len(self.axes) == len(other.axes) and all(
            mine == theirs or ("N" not in mine + theirs and other.count(theirs) == 1)
            for mine, theirs in zip(self.axes, other.axes, strict=True)
        )

    def reshaped(self, shape: Sequence[int]) -> Layout | None:
        """Lay the letters on axes of `shape`, in their order; None where that cuts one in two."""
        letters = list("".join(self.axes))
        axes: list[str] = []
        for side in shape:
            taken, length = "", 1
            while letters and (length < side or (side == 1 and not taken)):
                if length * self._length(letters[0]) > side:
                    break
                length *= self._length(letters[0])
                taken += letters.pop(0)
            if length != side:
                return None
            axes.append(taken)
        if any(self._length(letter) != 1 for letter in letters):
            return None
        if axes and self.has_positions:  # sides of length 1 that the target did not mention
            axes[-1] += "".join(letters)
        return replace(self, axes=tuple(axes))

    def transposed(self, perm: Sequence[int]) -> Layout | None:
        """Permute the axes; None where `perm` is no permutation of them."""
        if sorted(perm) != list(range(len(self.axes))):
            return None
        return replace(self, axes=tuple(self.axes[axis] for axis in perm))

    def squeezed(self, axes: Collection[int] | None) -> Layout | None:
        """Drop axes of length 1: those named, or all but the batch."""
        rank = len(self.axes)
        if axes is None:
            axes = [i for i, side in enumerate(self.shape) if side == 1 and "N" not in self.axes[i]]
        gone = {axis + rank if axis < 0 else axis for axis in axes}
        if not gone <= set(range(rank)) or any(self.shape[a] != 1 for a in gone):
            return None
        lost = "".join(self.axes[axis] for axis in gone)
        if "N" in lost:
            return None
        kept = [letters for i, letters in enumerate(self.axes) if i not in gone]
        if self.has_positions and lost and kept:  # a 1×1 map keeps its letters
            kept[-1] += lost
        return replace(self, axes=tuple(kept))

    def unsqueezed(self, axes: Collection[int]) -> Layout | None:
        """Insert axes of length 1, counted in the result."""
        rank = len(self.axes) + len(axes)
        new = {axis + rank if axis < 0 else axis for axis in axes}
        if len(new) != len(axes) or not new <= set(range(rank)):
            return None
        rest = iter(self.axes)
        return replace(self, axes=tuple("" if i in new else next(rest) for i in range(rank)))

    def _length(self, letter: str) -> int:
        lengths = {"N": self.batch, "C": self.channels, "H": self.height, "W": self.width}
        return lengths[letter]
