"""The module that the zoo hands out: a backbone, a head, and what is known about them."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from anysize.heads import HEAD_KINDS
from anysize.models.backbones import Backbone
from anysize.models.heads import HeadParts, HeadRequest

__all__ = ["Classifier", "RegionClassifier"]


class Classifier(nn.Module):
    """An image classifier whose head can be told apart from its backbone.

    The state dict has the keys of the network's authors: the backbone's children and the
    trained layers of the head are direct children of this module, everything else has no state.

    Args:
        backbone: The trunk and the classifier's shape.
        parts: The head's modules.
        request: What the head was built for.
        name: The zoo's name for the network.
        head: The head's name.
        channels: Channels of the image.

    Attributes:
        map_size: The feature map that the head needs or pools to; None where it takes any map.
        input_names: `("input",)`, or `("input", "rois")` for the roi head.
        output_names: `("logits",)`, `("map",)` or `("logits", "map")`, in the order of the
            outputs.
        classifier_name: The child that holds the trained layers of the head.
    """

    def __init__(
        self,
        backbone: Backbone,
        parts: HeadParts,
        request: HeadRequest,
        *,
        name: str,
        head: str,
        channels: int,
    ) -> None:
        super().__init__()
        self.name = name
        self.head = head
        self.training_size = request.training_size
        self.channels = channels
        self.classes = request.classes
        kind = HEAD_KINDS[head]
        self.map_size = request.map_size if kind.reads_trained_map else None
        self.input_names, self.output_names = kind.inputs, kind.outputs
        self.classifier_name = backbone.classifier.name
        self.prepare = parts.prepare
        self._trunk = tuple(backbone.trunk)
        for child, module in backbone.trunk.items():
            self.add_module(child, module)
        self.pool = parts.pool
        self.add_module(self.classifier_name, parts.layers)
        self.finish = parts.finish

    def forward_features(self, images: Tensor) -> Tensor:
        """Map `(batch, channels, height, width)` to the last feature map.

        Returns:
            `(batch, map_channels, map_height, map_width)`; for the resize head the map of the
            resized image.
        """
        hidden = self.prepare(images)
        for child in self._trunk:
            hidden = self.get_submodule(child)(hidden)
        return cast("Tensor", hidden)

    def forward_head(self, feature_map: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map a feature map to the outputs named in `output_names`.

        Returns:
            Logits `(batch, classes)` or a map `(batch, classes, map_height, map_width)`; for the
            cam head both, in this order.
        """
        layers = self.get_submodule(self.classifier_name)
        return cast("Tensor | tuple[Tensor, ...]", self.finish(layers(self.pool(feature_map))))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Classify float images `(batch, channels, height, width)`; see `forward_head`."""
        return self.forward_head(self.forward_features(images))


class RegionClassifier(Classifier):
    """A classifier of regions of images: the roi head.

    Regions are `(count, 5)`: the image's index in the batch, then x1, y1, x2, y2 in pixels.
    """

    def forward_head(self, feature_map: Tensor, rois: Tensor) -> Tensor:  # type: ignore[override]
        """Map a feature map and regions `(count, 5)` to logits `(count, classes)`."""
        layers = self.get_submodule(self.classifier_name)
        return cast("Tensor", self.finish(layers(self.pool(feature_map, rois))))

    def forward(self, images: Tensor, rois: Tensor) -> Tensor:  # type: ignore[override]
        """Classify regions `(count, 5)` of images `(batch, channels, height, width)`.

        Returns:
            Logits `(count, classes)`, in the order of the regions.
        """
        return self.forward_head(self.forward_features(images), rois)
