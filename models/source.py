"""SOURCE, as the command line writes it: a zoo name, a library's model, or a callable of yours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from anysize.errors import SourceError, UsageError
from anysize.files import file_sha256
from anysize.heads import AS_IS
from anysize.lazy import load
from anysize.models.assemble import build, shipped_weights
from anysize.models.configured import configured_preprocessing
from anysize.models.heads import HeadOptions
from anysize.models.user_code import checked_module, from_user_code, why
from anysize.models.weights import load_tensors, read_checkpoint
from anysize.preprocessing import Preprocessing
from anysize.sizes import Size
from anysize.sources import canonical_source, is_of_zoo

__all__ = ["LIBRARIES", "ResolvedModel", "image_channels", "resolve"]

_DEFAULT_SIZE = Size(224, 224)
# What builds a library's network by its name, and keeps it from loading weights.
LIBRARIES: dict[str, tuple[str, dict[str, object]]] = {
    "torchvision": ("torchvision.models:get_model", {"weights": None}),
    "timm": ("timm:create_model", {"pretrained": False}),
}
# timm reads such a file itself, and perhaps unpickles it.
_FILE_ARGUMENT = "checkpoint_path"


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that is ready to run, and what is known about it.

    Attributes:
        module: In eval mode; an `anysize.models.Classifier` for a zoo name.
        name: The source as it was written.
        head: The zoo head; None for a model that comes as it is.
        channels: Channels of the input image; None where nothing tells.
        classes: Number of classes; None where it is not known without running the model.
        training_size: The image size that the model was made for.
        seed: What the weights were drawn from, where they were drawn.
        weights_sha256: SHA-256 of the weights file that was loaded; None without one.
        options: Choices within the zoo head; None for a model that comes as it is.
        notes: What the user should know of its weights.
        preprocessing: How its images are prepared, where its own configuration says so.
    """

    module: nn.Module
    name: str
    head: str | None
    channels: int | None
    classes: int | None
    training_size: Size
    seed: int
    weights_sha256: str | None
    options: HeadOptions | None = None
    notes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None


def resolve(
    source: str,
    *,
    head: str | None = None,
    size: Size | None = None,
    classes: int | None = None,
    seed: int = 0,
    weights: Path | None = None,
    options: HeadOptions | None = None,
    arguments: Mapping[str, object] | None = None,
) -> ResolvedModel:
    """Turn a SOURCE into a module.

    Args:
        source: A zoo name, `torchvision:NAME`, `timm:NAME`, or a name in your own code:
            `package.module:name`, `package.module.name` or `folder/file.py:name`, an `nn.Module` or
            what returns one. The working folder is on `sys.path` while that code runs.
        head: A head of the zoo network; `as-is` or None for any other source.
        size: The training size; if None the zoo's, or 224x224.
        classes: Number of classes of a zoo network; see `build`.
        seed: Seeds the weights; the global random state is left as it was.
        weights: A checkpoint to load.
        options: Choices within the head of a zoo network.
        arguments: What the network is built with, `{"num_classes": 12}`; of a zoo network, that.

    Raises:
        SourceError: The source names nothing that can be built.
        UsageError: The head is not offered, or the size is too small.
        WeightsError: The checkpoint cannot be read safely or does not fit.
    """
    arguments = dict(arguments or {})
    checkpoint = None if weights is None else read_checkpoint(weights)
    if is_of_zoo(source):
        options = options or HeadOptions()
        classes = _class_count(source, arguments) or classes
        classifier = build(
            source,
            head=head,
            size=size,
            classes=classes,
            seed=seed,
            weights=checkpoint,
            options=options,
        )
        path = weights or shipped_weights(
            source, head=head, size=size, classes=classes, options=options
        )
        return ResolvedModel(
            module=classifier,
            name=source,
            head=classifier.head,
            channels=classifier.channels,
            classes=classifier.classes,
            training_size=classifier.training_size,
            seed=seed,
            weights_sha256=None if path is None else file_sha256(path),
            options=options,
            notes=checkpoint.notes if checkpoint else (),
        )
    if options is not None:
        raise UsageError(f"{source}: options are choices within a zoo head; leave them out here")
    if head not in {None, AS_IS}:
        raise UsageError(
            f"{source}: head {head!r} is chosen for zoo networks only; leave it out here"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = _made(canonical_source(source), arguments, seed=seed)
    if checkpoint is not None:
        load_tensors(module, checkpoint)
    return ResolvedModel(
        module=module.eval(),
        name=source,
        head=None,
        channels=image_channels(module),
        classes=classes,
        training_size=size or _DEFAULT_SIZE,
        seed=seed,
        weights_sha256=None if weights is None else file_sha256(weights),
        notes=checkpoint.notes if checkpoint else (),
        preprocessing=configured_preprocessing(module, source),
    )


def _class_count(source: str, arguments: Mapping[str, object]) -> int | None:
    """Read the one argument that a network of the zoo has."""
    count = arguments.get("num_classes")
    if set(arguments) - {"num_classes"} or (arguments and type(count) is not int):
        raise UsageError(
            f"{source}: model args {dict(arguments)!r}: expected a number of num_classes, and no "
            "others for a network of the zoo"
        )
    return count if isinstance(count, int) else None


def _made(source: str, arguments: Mapping[str, object], *, seed: int) -> nn.Module:
    library, _, network = source.partition(":")
    home, _, name = source.rpartition(":")
    if not home or not name:
        raise SourceError(
            f"model {source!r}: expected a zoo name, torchvision:NAME, timm:NAME, "
            "package.module:NAME or file.py:NAME"
        )
    if library in LIBRARIES:
        return _from_library(library, network, arguments)
    return from_user_code(home, name, arguments, seed=seed)


def image_channels(module: nn.Module) -> int | None:
    """Return the channels of a module's image: what it says in `channels`, or its first Conv2d's.

    None where it has neither.
    """
    said = getattr(module, "channels", None)
    first = (layer.in_channels for layer in module.modules() if isinstance(layer, nn.Conv2d))
    return said if isinstance(said, int) else next(first, None)


def _from_library(library: str, name: str, arguments: Mapping[str, object]) -> nn.Module:
    source = f"{library}:{name}"
    path, options = LIBRARIES[library]
    if taken := arguments.keys() & {*options, _FILE_ARGUMENT}:
        raise UsageError(
            f"{source}: model args {min(taken)!r} loads weights; give a file with --weights FILE"
        )
    try:
        create = load(path)
    # A library built for another torch fails with whatever its extension raises.
    except Exception as exc:
        if isinstance(exc, ModuleNotFoundError) and exc.name == library:
            raise SourceError(
                f'model {source}: {library} is not installed; pip install "anysize[vision]"'
            ) from exc
        raise SourceError(
            f"model {source}: {library} cannot be imported: {why(exc)}; pip install "
            '"anysize[vision]"'
        ) from exc
    try:
        module = create(name, **options, **arguments)
    except Exception as exc:
        raise SourceError(f"model {source}: {why(exc)}") from exc
    return checked_module(module, source)
