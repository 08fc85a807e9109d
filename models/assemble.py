"""From a zoo name to a classifier: structure first, on no memory, then weights, once."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import torch
from torch import Tensor

from anysize.bisection import lowest
from anysize.errors import UsageError
from anysize.heads import HEAD_KINDS
from anysize.lazy import load
from anysize.models.backbones import Backbone
from anysize.models.classifier import Classifier, RegionClassifier
from anysize.models.heads import HeadOptions, HeadRequest, attach_head
from anysize.models.seeded_weights import fill_seeded
from anysize.models.weights import Checkpoint, load_tensors, read_checkpoint
from anysize.models.zoo import choose_head, find_entry
from anysize.sizes import Size

__all__ = ["build", "construct", "shipped_weights"]

# Image sides a power of two apart, to measure strides up to 1024 by; on the meta device.
_STRIDE_PROBES = (1024, 1024 + 32768)


def build(
    name: str,
    *,
    head: str | None = None,
    size: Size | None = None,
    classes: int | None = None,
    seed: int = 0,
    weights: Path | Checkpoint | None = None,
    options: HeadOptions | None = None,
) -> Classifier:
    """Build a classifier of the zoo in eval mode, float32, on the CPU.

    Without `weights` they are drawn from `seed`; `digits` at its own size, classes and options
    loads the trained weights that are shipped, whatever the seed.

    Args:
        name: A name of `anysize.models.ZOO`.
        head: A head that the network offers; its default head if None.
        size: The image size that the head is built for; the zoo's training size if None.
        classes: Number of classes; if None, that of the checkpoint's last layer, or the zoo's.
        seed: Seeds the weights; equal seeds give equal weights, and heads with the same layers
            get the same ones.
        weights: A checkpoint: safetensors, or a torch file without code in it; or one that was
            read.
        options: Choices within the head.

    Raises:
        SourceError: The zoo has no such network.
        UsageError: The network does not offer the head, or the size is below its smallest.
        WeightsError: The checkpoint cannot be read safely or does not fit.
    """
    given = weights or shipped_weights(name, head=head, size=size, classes=classes, options=options)
    checkpoint = read_checkpoint(given) if isinstance(given, Path) else given
    module = construct(name, head=head, size=size, classes=classes, options=options)
    if classes is None and checkpoint is not None:
        found = _count_classes(module, checkpoint)
        if found not in {None, module.classes}:
            module = construct(name, head=head, size=size, classes=found, options=options)
    module.to_empty(device="cpu")
    if checkpoint is None:
        fill_seeded(module, seed)
    else:
        load_tensors(module, checkpoint)
    return module


def construct(
    name: str,
    *,
    head: str | None = None,
    size: Size | None = None,
    classes: int | None = None,
    options: HeadOptions | None = None,
) -> Classifier:
    """Build the structure alone, on the meta device: no memory is taken, no number is drawn.

    Arguments and errors are those of `build`. Call `.to_empty(device="cpu")` and fill it, or
    count its parameters.
    """
    entry = find_entry(name)
    head = choose_head(name, head)
    training_size = size or entry.training_size
    class_count = entry.classes if classes is None else classes
    if class_count < 1:
        raise UsageError(f"{name}: classes is {class_count}, expected 1 or more")
    with torch.device("meta"):
        backbone: Backbone = load(entry.path)()
        channels, map_size = _feature_map(name, backbone, entry.channels, training_size)
        request = HeadRequest(
            channels=channels,
            map_size=map_size,
            stride=_stride(name, backbone, entry.channels),
            training_size=training_size,
            classes=class_count,
            classifier=backbone.classifier,
            options=options or HeadOptions(),
        )
        parts = attach_head(head, request)
        kind = RegionClassifier if "rois" in HEAD_KINDS[head].inputs else Classifier
        classifier = kind(backbone, parts, request, name=name, head=head, channels=entry.channels)
        return classifier.eval()


def shipped_weights(
    name: str,
    *,
    head: str | None = None,
    size: Size | None = None,
    classes: int | None = None,
    options: HeadOptions | None = None,
) -> Path | None:
    """Return the trained weights that come with the package, or None where none fit.

    Arguments are those of `build`.
    """
    entry = find_entry(name)
    head = choose_head(name, head)
    if name != "digits" or (options or HeadOptions()) != HeadOptions():
        return None
    if (size or entry.training_size) != entry.training_size:
        return None
    if (classes or entry.classes) != entry.classes:
        return None
    checkpoint = HEAD_KINDS[head].checkpoint
    resource = files("anysize.models.digits") / "weights" / f"{checkpoint}.safetensors"
    # A wheel is always unpacked, so this is the file itself and not a temporary copy.
    with as_file(resource) as path:
        return path


def _feature_map(name: str, backbone: Backbone, channels: int, size: Size) -> tuple[int, Size]:
    """Channels and size of the last feature map, by running the trunk on the meta device."""
    shape = _trunk_shape(backbone, channels, size)
    if shape is None:

        def has_map(side: int) -> bool:
            return _trunk_shape(backbone, channels, Size(side, side)) is not None

        enough = max(size.height, size.width)
        while not has_map(enough):
            enough *= 2
        side = lowest(has_map, enough)
        raise UsageError(
            f"{name} at {size}: nothing is left of the feature map; the smallest size is "
            f"{Size(side, side)}"
        )
    return shape[1], Size(shape[2], shape[3])


def _stride(name: str, backbone: Backbone, channels: int) -> int:
    """Pixels between neighbouring cells, from how the map grows with the image.

    Every stage divides by its stride and rounds down, so a map grows by exactly n cells when the
    image grows by n strides, and by no other rule for every n.
    """
    sides = []
    for side in _STRIDE_PROBES:
        shape = _trunk_shape(backbone, channels, Size(side, side))
        sides.append(0 if shape is None else shape[2])
    cells = sides[1] - sides[0]
    stride, rest = divmod(_STRIDE_PROBES[1] - _STRIDE_PROBES[0], max(cells, 1))
    if rest or not cells:
        raise UsageError(f"{name}: the map has {sides} cells at {_STRIDE_PROBES}: no whole stride")
    return stride


def _trunk_shape(backbone: Backbone, channels: int, size: Size) -> tuple[int, ...] | None:
    hidden: Tensor = torch.empty(1, channels, size.height, size.width, device="meta")
    with torch.no_grad():
        try:
            for layer in backbone.trunk.values():
                hidden = layer.eval()(hidden)
        except RuntimeError:  # a convolution or pooling whose output would be empty
            return None
    return tuple(hidden.shape)


def _count_classes(module: Classifier, checkpoint: Checkpoint) -> int | None:
    """Units of the checkpoint's last layer; None where it has no such layer."""
    prefix = f"{module.classifier_name}."
    keys = module.state_dict().keys()
    last = [key for key in keys if key.startswith(prefix)][-1]
    tensor = checkpoint.named_as(keys).get(last)
    return int(tensor.shape[0]) if tensor is not None and tensor.ndim else None
