"""SOURCE, as the command line writes it: a zoo name, a library's model, or a callable of yours."""

from __future__ import annotations

import contextlib
import importlib
import operator
import sys
from collections.abc import Iterator
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
from anysize.models.weights import load_weights
from anysize.preprocessing import Preprocessing
from anysize.sizes import Size

__all__ = ["LIBRARIES", "ResolvedModel", "image_channels", "resolve"]

_DEFAULT_SIZE = Size(224, 224)
# What builds a library's network by its name, and keeps it from loading weights.
LIBRARIES: dict[str, tuple[str, dict[str, object]]] = {
    "torchvision": ("torchvision.models:get_model", {"weights": None}),
    "timm": ("timm:create_model", {"pretrained": False}),
}


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
) -> ResolvedModel:
    """Turn a SOURCE into a module.

    Args:
        source: A zoo name, `torchvision:NAME`, `timm:NAME`, or `package.module:callable`, where
            the callable takes no arguments and returns an `nn.Module`. The working folder is on
            `sys.path` while that module is imported and the callable runs.
        head: A head of the zoo network; `as-is` or None for any other source.
        size: The training size; if None the zoo's, or 224x224.
        classes: Number of classes of a zoo network; see `build`.
        seed: Seeds the weights; the global random state is left as it was.
        weights: A checkpoint to load.
        options: Choices within the head of a zoo network.

    Raises:
        SourceError: The source names nothing that can be built.
        UsageError: The head is not offered, or the size is too small.
        WeightsError: The checkpoint cannot be read safely or does not fit.
    """
    prefix, colon, name = source.partition(":")
    if not colon:
        options = options or HeadOptions()
        classifier = build(
            source,
            head=head,
            size=size,
            classes=classes,
            seed=seed,
            weights=weights,
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
        )
    if options is not None:
        raise UsageError(f"{source}: options are choices within a zoo head; leave them out here")
    if head not in {None, AS_IS}:
        raise UsageError(
            f"{source}: head {head!r} is chosen for zoo networks only; leave it out here"
        )
    if not prefix or not name:
        raise SourceError(
            f"model {source!r}: expected a zoo name, torchvision:NAME, timm:NAME or "
            "package.module:callable"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if prefix in LIBRARIES:
            module = _from_library(prefix, name)
        else:
            module = _from_callable(prefix, name, seed=seed)
    if weights is not None:
        load_weights(module, weights)
    return ResolvedModel(
        module=module.eval(),
        name=source,
        head=None,
        channels=image_channels(module),
        classes=classes,
        training_size=size or _DEFAULT_SIZE,
        seed=seed,
        weights_sha256=None if weights is None else file_sha256(weights),
        preprocessing=configured_preprocessing(module, source),
    )


def image_channels(module: nn.Module) -> int | None:
    """Return the channels of a module's image: what it says in `channels`, or its first Conv2d's.

    None where it has neither.
    """
    said = getattr(module, "channels", None)
    first = (layer.in_channels for layer in module.modules() if isinstance(layer, nn.Conv2d))
    return said if isinstance(said, int) else next(first, None)


def _from_library(library: str, name: str) -> nn.Module:
    source = f"{library}:{name}"
    path, options = LIBRARIES[library]
    try:
        create = load(path)
    # A library built for another torch fails with whatever its extension raises.
    except Exception as exc:
        if isinstance(exc, ModuleNotFoundError) and exc.name == library:
            raise SourceError(
                f'model {source}: {library} is not installed; pip install "anysize[vision]"'
            ) from exc
        raise SourceError(
            f"model {source}: {library} cannot be imported: {_one_line(exc)}; pip install "
            '"anysize[vision]"'
        ) from exc
    try:
        module = create(name, **options)
    except Exception as exc:
        raise SourceError(f"model {source}: {_one_line(exc)}") from exc
    return _checked(module, source)


def _from_callable(package: str, attribute: str, *, seed: int) -> nn.Module:
    source = f"{package}:{attribute}"
    with _working_folder_on_path():
        try:
            found = importlib.import_module(package)
        # The user's module may raise anything, SystemExit included.
        except (Exception, SystemExit) as exc:
            raise SourceError(
                f"model {source}: importing {package} failed: {_one_line(exc)}"
            ) from exc
        try:
            make = operator.attrgetter(attribute)(found)
        except AttributeError as exc:
            raise SourceError(
                f"model {source}: module {package} has no attribute {attribute!r}"
            ) from exc
        if isinstance(make, nn.Module):
            return make
        if not callable(make):
            raise SourceError(
                f"model {source}: is a {type(make).__name__}, expected a callable that returns "
                "an nn.Module"
            )
        # A module draws numbers when it is first imported, perhaps; the model starts afresh.
        torch.default_generator.manual_seed(seed)
        try:
            module = make()
        except (Exception, SystemExit) as exc:
            raise SourceError(
                f"model {source}: calling it without arguments failed: {_one_line(exc)}"
            ) from exc
    return _checked(module, source)


def _checked(module: object, source: str) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise SourceError(
            f"model {source}: returned a {type(module).__name__}, expected an nn.Module"
        )
    return module


@contextlib.contextmanager
def _working_folder_on_path() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the user's module may have taken it off itself
            sys.path.remove(folder)


def _one_line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines()
    return f"{type(exc).__name__}: {lines[0]}" if lines else type(exc).__name__
