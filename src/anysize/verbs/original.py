"""The original that a file is compared with: what the user names, or what the file says it is.

A file is not trusted: it may name a network, and neither other code to run nor a network that
would fill the memory.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.errors import UsageError
from anysize.heads import FC, head_kind

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from anysize.models import HeadOptions, ResolvedModel
    from anysize.surgery import FileMetadata

__all__ = ["find_original"]

# What a file may name; timm's `timm:hf-hub:…` would ask the internet.
_NETWORK = re.compile(r"[\w.-]+(:[\w.-]+)?")
# Parameters that any file may ask for, whatever it holds; the zoo's largest has 144 million.
_FREE_PARAMETERS = 1 << 28


def find_original(
    path: Path,
    model: onnx.ModelProto,
    reference: str | Path | nn.Module | None,
    weights: Path | str | None,
) -> tuple[nn.Module | Path, str]:
    """Find the original of a file, and what reports call it.

    Args:
        path: The file, for messages.
        model: What is in it; its weights are not read.
        reference: A SOURCE, another ONNX file, or a module; None for what the metadata name.
        weights: A checkpoint for it.

    Raises:
        SourceError: A source names nothing that can be built.
        UsageError: The metadata name nothing, or something that no file may choose; `weights` have
            no place there.
        WeightsError: The checkpoint cannot be read safely or does not fit.
    """
    checkpoint = None if weights is None else Path(weights)
    if reference is None:
        resolved = _from_metadata(path, model, checkpoint)
        return resolved.module, resolved.name
    if isinstance(reference, (str, Path)):
        if str(reference).endswith(".onnx"):
            if checkpoint is not None:
                raise UsageError("weights: are for a PyTorch reference, not for an ONNX file")
            return Path(reference), ""
        resolved = _from_source(str(reference), path, model, checkpoint)
        return resolved.module, resolved.name
    if checkpoint is not None:
        raise UsageError("weights: load them into the module before you validate")
    return reference, type(reference).__qualname__


def _from_metadata(path: Path, model: onnx.ModelProto, weights: Path | None) -> ResolvedModel:
    """Build the model that a file says it is, with the weights that it says it has."""
    from anysize.surgery import read_metadata

    metadata = read_metadata(model)
    if metadata.model is None:
        raise UsageError(
            f"{path}: does not say which model it is; give --reference SOURCE or OTHER.onnx"
        )
    if not _NETWORK.fullmatch(metadata.model):
        raise UsageError(
            f"{path}: says that it is {metadata.model!r}, which no file may choose; give "
            "--reference SOURCE or OTHER.onnx"
        )
    resolved = _from_source(metadata.model, path, model, weights, only_networks=True)
    if metadata.weights_sha256 != resolved.weights_sha256:
        expected = metadata.weights_sha256 or "none: random weights"
        raise UsageError(
            f"{path}: was made with a weights file of SHA-256 {expected[:16]}, got "
            f"{(resolved.weights_sha256 or 'none')[:16]}; give that file with --weights"
        )
    return resolved


def _from_source(
    source: str,
    path: Path,
    model: onnx.ModelProto,
    weights: Path | None,
    *,
    only_networks: bool = False,
) -> ResolvedModel:
    from anysize.models import ZOO, HeadOptions, find_entry, resolve
    from anysize.surgery import read_metadata

    metadata = read_metadata(model)
    head, options = None, None
    if source in ZOO:  # only a zoo network can be built with the head that the file has
        head = metadata.head if metadata.head in find_entry(source).heads else None
        if head_kind(head).is_fully_convolutional:
            # The strongest proof: each cell of the map against the FC layers on its window.
            head = FC
        options = HeadOptions.from_json(metadata.options)
        _refuse_larger(source, path, model, metadata, head=head, options=options)
    return resolve(
        source,
        head=head,
        size=metadata.size,
        seed=metadata.seed or 0,
        weights=weights,
        options=options,
        only_networks=only_networks,
    )


def _refuse_larger(
    source: str,
    path: Path,
    model: onnx.ModelProto,
    metadata: FileMetadata,
    *,
    head: str | None,
    options: HeadOptions,
) -> None:
    """Refuse a size or options with which the network would be far larger than the file."""
    from anysize.models import construct
    from anysize.surgery.storage import all_tensors

    held = sum(math.prod(tensor.dims) for tensor in all_tensors(model))
    module = construct(source, head=head, size=metadata.size, options=options)
    needed = sum(parameter.numel() for parameter in module.parameters())
    if needed > max(2 * held, _FREE_PARAMETERS):
        chosen = f" and options {metadata.options}" if metadata.options else ""
        raise UsageError(
            f"{path}: says that it is {source} of size {metadata.size}{chosen}, which has {needed} "
            f"parameters, and holds {held} numbers; give --reference SOURCE or OTHER.onnx"
        )
