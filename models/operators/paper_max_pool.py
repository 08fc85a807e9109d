"""Max pooling into n×n bins of window ⌈a/n⌉ and stride ⌊a/n⌋, as the SPP paper has it.

He, Zhang, Ren, Sun, "Spatial Pyramid Pooling in Deep Convolutional Networks", ECCV 2014. The
formula gives n bins over a cells only where a mod n ≤ ⌊a/n⌋ and a ≥ n: with a = q·n + r there are
n + ⌊(r−1)/q⌋ of them where r > 0.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch program gives it
from torch import Tensor

from anysize.errors import MapSizeError
from anysize.models.operators.regions import pooling_operator

__all__ = ["paper_bins", "paper_max_pool"]


def paper_bins(side: int, n: int) -> int:
    """Return how many bins of window ⌈side/n⌉ and stride ⌊side/n⌋ fit; 0 where the stride is 0."""
    stride = side // n
    return 0 if stride == 0 else (side - -(-side // n)) // stride + 1


def paper_max_pool(features: Tensor, bins: int) -> Tensor:
    """Pool a map `(batch, channels, a, b)` to `(batch, channels, bins, bins)`.

    Raises:
        MapSizeError: The paper's formula does not give bins×bins on this map.
    """
    return _operator(features, bins)


def _paper_max_pool(features: Tensor, bins: int) -> Tensor:
    height, width = int(features.shape[-2]), int(features.shape[-1])
    rows, columns = paper_bins(height, bins), paper_bins(width, bins)
    if (rows, columns) != (bins, bins):
        raise MapSizeError(
            f"spp level {bins} on a {height}x{width} map: the paper's window and stride "
            f"give {rows}x{columns} bins, expected {bins}x{bins}; use bins='adaptive'"
        )
    window = (-(-height // bins), -(-width // bins))
    return F.max_pool2d(features, window, (height // bins, width // bins))


def _shape(features: Tensor, bins: int) -> Tensor:
    # A trace may be made at a size that the formula refuses: the exported graph is guarded.
    return features.new_empty(*features.shape[:-2], bins, bins)


_operator = pooling_operator("anysize::paper_max_pool", _paper_max_pool, _shape)
