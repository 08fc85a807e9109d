"""A small network for handwritten digits whose shipped weights the demo runs.

No convolution pads, so the arithmetic of the dense map is exact: one cell of the feature map
sees 20×20 pixels (3, 5, pool 6, 10, 14, pool 16, 20) and the cells lie 4 pixels apart; the FC
layers see 4×4 cells, which is 20 + 3·4 = 32×32 pixels. Cell (i, j) of the class map is therefore
the FC network's answer on the 32×32 crop at (4i, 4j), whose centre is pixel (15.5 + 4i,
15.5 + 4j).
"""

from __future__ import annotations

from torch import nn

from anysize.models.backbones.backbone import Backbone, ClassifierShape

__all__ = ["digits"]


def digits() -> Backbone:
    """Build the digits network: a 1×32×32 image gives a 64×4×4 map."""
    features = nn.Sequential(
        nn.Conv2d(1, 12, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(12, 16, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2, 2),
        nn.Conv2d(16, 32, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(32, 48, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2, 2),
        nn.Conv2d(48, 64, 2),
        nn.ReLU(inplace=True),
    )
    order = ("linear", "relu", "linear")
    return Backbone({"features": features}, ClassifierShape("classifier", order, (64,)))
