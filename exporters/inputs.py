"""Inputs of a graph besides the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anysize.sizes import Size

__all__ = ["ROIS", "InputSpec", "example_inputs"]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """An input that a graph has besides the image.

    Attributes:
        name: The name that the graph gives it.
        axes: A number for each axis, or the name of a symbolic one.
        example: Makes a valid value of type float32 for a batch of images of a size. Symbolic
            axes must come out different for different batches.
        rows: The symbolic axis that the outputs' axis 0 follows, where it is not the batch.
    """

    name: str
    axes: tuple[int | str, ...]
    example: Callable[[int, Size], Tensor]
    rows: str | None = None

    @property
    def symbols(self) -> dict[int, str]:
        """The symbolic axes by place."""
        return {place: axis for place, axis in enumerate(self.axes) if isinstance(axis, str)}


def example_inputs(
    channels: int,
    extra_inputs: Sequence[InputSpec],
    batch: int,
    size: Size,
    *,
    device: str = "cpu",
) -> tuple[Tensor, ...]:
    """Make an image of zeros, and a value for each input behind it, in float32."""
    # On the meta device the largest image costs nothing, if it is never anywhere else.
    image = torch.zeros(batch, channels, size.height, size.width, device=device)
    return (image, *(spec.example(batch, size).to(device) for spec in extra_inputs))


def _regions(batch: int, size: Size) -> Tensor:
    """Make 2 · batch + 1 regions, which is never a multiple of the batch above 1."""
    count = 2 * batch + 1
    image = torch.arange(count) % batch
    whole = torch.tensor([0.0, 0.0, size.width, size.height]).expand(count, 4)
    return torch.cat([image[:, None].to(whole.dtype), whole], 1)


# Regions of the images: batch index, x1, y1, x2, y2 in pixels. One answer for each.
ROIS = InputSpec("rois", ("count", 5), _regions, rows="count")
