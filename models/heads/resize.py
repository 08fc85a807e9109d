"""The resize head: the image is resized to the trained size inside the graph."""

from __future__ import annotations

import dataclasses

import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch program gives it
from torch import Tensor, nn

from anysize.models.heads.fc import fc
from anysize.models.heads.gap import gap
from anysize.models.heads.head import HeadParts, HeadRequest
from anysize.sizes import Size

__all__ = ["BilinearResize", "resize"]


class BilinearResize(nn.Module):
    """Bilinear interpolation to a fixed size: half-pixel centres, no anti-aliasing."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = (size.height, size.width)

    def forward(self, images: Tensor) -> Tensor:
        """Resize `(batch, channels, height, width)` to the trained height and width."""
        return F.interpolate(
            images, size=self.size, mode="bilinear", align_corners=False, antialias=False
        )

    def extra_repr(self) -> str:
        """Show the size in the module's print."""
        return f"size={self.size}"


def resize(request: HeadRequest) -> HeadParts:
    """Build the network's own head behind a resize of the image: its checkpoint fits.

    The network's own head is fc where it has FC layers, and gap where it pools globally.
    """
    own = fc(request) if request.classifier.hidden else gap(request)
    return dataclasses.replace(own, prepare=BilinearResize(request.training_size))
