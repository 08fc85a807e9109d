"""The original that a file is compared with: what the user names, or what the file says it is.

A file is not trusted: it may name a network of the zoo or of a library, and neither code of anybody
else, such as lies beside it in an archive, nor a network that would fill the memory.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.errors import UsageError
from anysize.heads import FC, head_kind
from anysize.sources import is_of_zoo

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from anysize.models import HeadOptions, ResolvedModel
    from anysize.surgery import FileMetadata

__all__ = ["Original", "find_original", "is_known_network", "other_weights"]

# The name of a network in a library; timm's `timm:hf-hub:…` would ask the internet.
_NETWORK = re.compile(r"[\w.-]+")
# What can be written in a command line as it is.
_SOURCE = re.compile(r"[\w.]+:[\w.]+")
# Parameters that any file may ask for, whatever it holds; the zoo's largest has 144 million.
_FREE_PARAMETERS = 1 << 28
_MOST_CLASSES = 1 << 20


@dataclass(frozen=True, slots=True)
class Original:
    """What a file is compared with.

    Attributes:
        model: A module, or another ONNX file.
        name: What reports call a module.
        notes: What the user should know of its weights.
    """

    model: nn.Module | Path
    name: str = ""
    notes: tuple[str, ...] = ()


def find_original(
    path: Path,
    model: onnx.ModelProto,
    reference: str | Path | nn.Module | None,
    weights: Path | str | None,
    model_args: Mapping[str, object] | None = None,
) -> Original:
    """Find the original of a file.

    Args:
        path: The file, for messages.
        model: What is in it; its weights are not read.
        reference: A SOURCE, another ONNX file, or a module; None for what the metadata name.
        weights: A checkpoint for it.
        model_args: What a SOURCE is called with.

    Raises:
        SourceError: A source names nothing that can be built.
        UsageError: The metadata name nothing, or something that no file may choose, or weights that
            are not given; `weights` have no place there.
        WeightsError: The checkpoint cannot be read safely or does not fit.
    """
    checkpoint = None if weights is None else Path(weights)
    is_source = isinstance(reference, (str, Path)) and not str(reference).endswith(".onnx")
    if model_args and not is_source:
        raise UsageError("model args: are for a reference that is a SOURCE")
    if reference is None:
        return _made(_from_metadata(path, model, checkpoint))
    if isinstance(reference, (str, Path)):
        if str(reference).endswith(".onnx"):
            if checkpoint is not None:
                raise UsageError("weights: are for a PyTorch reference, not for an ONNX file")
            return Original(Path(reference))
        return _made(_from_source(str(reference), path, model, checkpoint, model_args or {}))
    if checkpoint is not None:
        raise UsageError("weights: load them into the module before you validate")
    return Original(reference, type(reference).__qualname__)


def _made(resolved: ResolvedModel) -> Original:
    return Original(resolved.module, resolved.name, resolved.notes)


def _from_metadata(path: Path, model: onnx.ModelProto, weights: Path | None) -> ResolvedModel:
    """Build the model that a file says it is, with the weights that it says it has."""
    from anysize.surgery import read_metadata

    metadata = read_metadata(model)
    if metadata.model is None:
        raise UsageError(
            f"{path}: does not say which model it is; give --reference SOURCE or OTHER.onnx"
        )
    if not is_known_network(metadata.model):
        raise UsageError(f"{path}: {_foreign(metadata)}")
    if metadata.model_args is not None and not is_of_zoo(metadata.model):
        raise UsageError(f"{path}: {_with_arguments(metadata)}")
    resolved = _from_source(metadata.model, path, model, weights, {})
    if not _is_reproduced(metadata, resolved):
        raise UsageError(f"{path}: {_unreproduced(metadata, resolved)}")
    return resolved


def is_known_network(name: str) -> bool:
    """Whether a file may say that it is this: a network of the zoo, of torchvision or of timm."""
    from anysize.models import LIBRARIES, ZOO

    library, colon, network = name.partition(":")
    if not colon:
        return name in ZOO
    return library in LIBRARIES and _NETWORK.fullmatch(network) is not None


def other_weights(model: onnx.ModelProto, original: nn.Module | Path) -> tuple[str, ...]:
    """Say, in a note or none, that a reference has other weights than a file was made of."""
    if isinstance(original, Path):
        return ()
    from anysize.models import state_sha256
    from anysize.surgery import read_metadata

    recorded = read_metadata(model).state_sha256
    if recorded is None or recorded == state_sha256(original):
        return ()
    return (
        "the reference has other weights than the file was made of; give those with --weights FILE",
    )


def _foreign(metadata: FileMetadata) -> str:
    """Say why a file's own word is not enough, and what to give instead."""
    from anysize.surgery import MODULE_OBJECT

    name = metadata.model or ""
    if metadata.source == MODULE_OBJECT:
        return (
            f"was made of a module in memory, {name!r}, which no file can name; give --reference "
            "module:function, which returns that module, and its weights by --weights FILE"
        )
    source = name if _SOURCE.fullmatch(name) else "SOURCE"
    return (
        f"says that it is {name!r}, and no file may choose which code is run; if you trust it, "
        f"give --reference {source}{' --weights FILE' if metadata.weights_sha256 else ''}"
    )


def _with_arguments(metadata: FileMetadata) -> str:
    """Say that no file may choose what a function is called with, and what to give instead."""
    source, arguments = metadata.model or "", shlex.quote(metadata.model_args or "")
    return (
        f"says that it is {source} called with {arguments}, and no file may choose that; if you "
        f"trust it, give --reference {source} --model-args {arguments}"
    )


def _is_reproduced(metadata: FileMetadata, resolved: ResolvedModel) -> bool:
    """Whether a network that was built anew has the weights that the file was made of."""
    from anysize.models import state_sha256

    if metadata.state_sha256 is not None:
        return metadata.state_sha256 == state_sha256(resolved.module)
    return metadata.weights_sha256 == resolved.weights_sha256  # as older files say it


def _unreproduced(metadata: FileMetadata, resolved: ResolvedModel) -> str:
    """Say what the weights of a file were, and how to give them."""
    if metadata.weights_sha256 is None:
        with_file = " without a weights file" if resolved.weights_sha256 else ""
        return (
            f"was made of {metadata.model}{with_file} with other weights than it has when it is "
            f"built anew; give --reference {metadata.model} --weights FILE with a file of those"
        )
    got = (resolved.weights_sha256 or "none")[:16]
    return (
        f"was made with a weights file of SHA-256 {metadata.weights_sha256[:16]}, got {got}, which "
        "holds others; give that file with --weights"
    )


def _from_source(
    source: str,
    path: Path,
    model: onnx.ModelProto,
    weights: Path | None,
    arguments: Mapping[str, object],
) -> ResolvedModel:
    from anysize.models import ZOO, HeadOptions, find_entry, resolve
    from anysize.surgery import read_metadata

    metadata = read_metadata(model)
    head, options, classes = None, None, None
    if source in ZOO:  # only a zoo network can be built with the head that the file has
        head = metadata.head if metadata.head in find_entry(source).heads else None
        if head_kind(head).is_fully_convolutional:
            # The strongest proof: each cell of the map against the FC layers on its window.
            head = FC
        options = HeadOptions.from_json(metadata.options)
        # A checkpoint says it itself.
        said = metadata.classes or 0
        is_free = weights is None and not arguments and 0 < said <= _MOST_CLASSES
        classes = said if is_free else None
        _refuse_larger(source, path, model, metadata, head=head, classes=classes, options=options)
    return resolve(
        source,
        head=head,
        size=metadata.size,
        classes=classes,
        seed=metadata.seed or 0,
        weights=weights,
        options=options,
        arguments=arguments,
    )


def _refuse_larger(
    source: str,
    path: Path,
    model: onnx.ModelProto,
    metadata: FileMetadata,
    *,
    head: str | None,
    classes: int | None,
    options: HeadOptions,
) -> None:
    """Refuse a size or options with which the network would be far larger than the file."""
    from anysize.models import construct
    from anysize.surgery.storage import all_tensors

    held = sum(math.prod(tensor.dims) for tensor in all_tensors(model))
    module = construct(source, head=head, size=metadata.size, classes=classes, options=options)
    needed = sum(parameter.numel() for parameter in module.parameters())
    if needed > max(2 * held, _FREE_PARAMETERS):
        chosen = f" and options {metadata.options}" if metadata.options else ""
        raise UsageError(
            f"{path}: says that it is {source} of size {metadata.size}{chosen}, which has {needed} "
            f"parameters, and holds {held} numbers; give --reference SOURCE or OTHER.onnx"
        )
