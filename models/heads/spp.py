"""The spp head: spatial pyramid max pooling → the FC layers.

He, Zhang, Ren, Sun, "Spatial Pyramid Pooling in Deep Convolutional Networks", ECCV 2014 (arXiv
1406.4729). Bins are those of adaptive pooling, ⌊i·a/n⌋ to ⌈(i+1)·a/n⌉, or the paper's window
⌈a/n⌉ and stride ⌊a/n⌋, which gives n bins only for some a.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch program gives it
from torch import Tensor, nn

from anysize.errors import UsageError
from anysize.models.heads.head import HeadParts, HeadRequest
from anysize.models.heads.layers import linear_layers
from anysize.models.operators import paper_bins, paper_max_pool

__all__ = ["PaperPyramidPool", "PyramidPool", "spp"]


class PyramidPool(nn.Module):
    """Max pooling into n×n bins for each level n, with the bins of adaptive pooling.

    Args:
        levels: Bins along each axis, one level after the other.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, feature_map: Tensor) -> Tensor:
        """Reduce `(batch, channels, a, b)` to `(batch, channels · Σ n²)`.

        The features stand level by level in the order of `levels`; within a level they are
        `(channels, n, n)` flattened: all bins of the first channel row by row, then the second.
        """
        pooled = [torch.flatten(F.adaptive_max_pool2d(feature_map, n), 1) for n in self.levels]
        return torch.cat(pooled, 1)

    def extra_repr(self) -> str:
        """Show the levels in the module's print."""
        return f"levels={self.levels}"


class PaperPyramidPool(PyramidPool):
    """The pyramid with the paper's bins: window ⌈a/n⌉ and stride ⌊a/n⌋ along each axis."""

    def forward(self, feature_map: Tensor) -> Tensor:
        """Reduce `(batch, channels, a, b)` to `(batch, channels · Σ n²)`, in the same order.

        Raises:
            MapSizeError: The paper's formula does not give n×n bins on this map.
        """
        pooled = [torch.flatten(paper_max_pool(feature_map, n), 1) for n in self.levels]
        return torch.cat(pooled, 1)


def spp(request: HeadRequest) -> HeadParts:
    """Build the pyramid and the network's own FC layers behind it, for any size.

    Raises:
        UsageError: The levels are empty or not positive, or the paper's bins do not fit the map of
            the training size.
    """
    levels, bins = request.options.levels, request.options.bins
    if not levels or min(levels) < 1:
        raise UsageError(f"spp levels {levels}: expected numbers from 1, such as (4, 2, 1)")
    if bins not in {"adaptive", "paper"}:
        raise UsageError(f"spp bins {bins!r}: expected 'adaptive' or 'paper'")
    sides = (request.map_size.height, request.map_size.width)
    misfits = [n for n in levels for side in sides if paper_bins(side, n) != n]
    if bins == "paper" and misfits:
        raise UsageError(
            f"spp bins 'paper': level {misfits[0]} does not fit the {request.map_size} map of "
            f"{request.training_size} images; give another --size, or bins='adaptive'"
        )
    features = request.channels * sum(n * n for n in levels)
    return HeadParts(
        pool=PyramidPool(levels) if bins == "adaptive" else PaperPyramidPool(levels),
        layers=linear_layers(request.classifier, features, request.classes),
    )
