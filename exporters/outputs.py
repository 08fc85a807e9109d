"""What a module returns, as names of graph outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anysize.errors import ExportError
from anysize.exporters.inputs import InputSpec, example_inputs
from anysize.exporters.tracing import on_meta
from anysize.sizes import Size

__all__ = ["image_channels", "output_names"]

_LOGITS = "logits"
_COLOURS = 3


def image_channels(
    module: nn.Module,
    guessed: int | None,
    *,
    size: Size,
    extra_inputs: Sequence[InputSpec] = (),
) -> int | None:
    """Return the channels of the images that a module takes.

    Args:
        module: Run without numbers, unless colours are guessed.
        guessed: Channels of its first convolution; None where it has none. That may stand behind
            something that makes more channels of the image's: space to depth, a cosine transform.
        size: An image size that it takes.
        extra_inputs: What it takes beside the image.

    Returns:
        The guess where the module takes it, or else the one of 3 and 1 that it takes alone; the
        guess where there is none.
    """

    def takes(channels: int) -> bool:
        return _answer(module, channels, size, extra_inputs) is not None

    if guessed == _COLOURS or (guessed is not None and takes(guessed)):
        return guessed
    taken = list(filter(takes, (_COLOURS, 1)))
    return taken[0] if len(taken) == 1 else guessed


def output_names(
    module: nn.Module, *, channels: int, size: Size, extra_inputs: Sequence[InputSpec] = ()
) -> tuple[str, ...]:
    """Name the outputs of a module by running it on one image without numbers.

    Returns:
        `logits` for a tensor, the keys of a dict, the fields of a named tuple; for a plain tuple
        `logits`, `output_1`, `output_2` and so on.

    Raises:
        ExportError: It returns something else than tensors, or a key is no name for an output.
    """
    kind = type(module).__name__
    answer = _answer(module, channels, size, extra_inputs)
    if isinstance(answer, Tensor) or answer is None:
        return (_LOGITS,)
    if isinstance(answer, Mapping):
        named = {str(key): value for key, value in answer.items()}
    elif hasattr(answer, "_fields"):
        named = dict(zip(answer._fields, answer, strict=True))
    elif isinstance(answer, (tuple, list)):
        named = {f"output_{place}" if place else _LOGITS: v for place, v in enumerate(answer)}
    else:
        raise ExportError(
            f"{kind}: returns {type(answer).__name__}, expected a tensor, or a flat tuple or dict "
            "of tensors"
        )
    for key, value in named.items():
        if not isinstance(value, Tensor):
            raise ExportError(
                f"{kind}: its output {key!r} is {type(value).__name__}, expected a tensor; wrap it "
                "in a module that returns the tensors alone"
            )
    reserved = {"input", *(spec.name for spec in extra_inputs)} & named.keys()
    if reserved or not named:
        what = f"calls an output {reserved.pop()!r}, as an input is" if reserved else "is empty"
        raise ExportError(f"{kind}: what it returns {what}; expected named tensors")
    return tuple(named)


def _answer(module: nn.Module, channels: int, size: Size, extra_inputs: Sequence[InputSpec]) -> Any:
    """Run the module; None where it refuses, which the tracing will explain."""
    # A module that looks at numbers does not run on meta.
    for device, runs in (("meta", on_meta(module)), ("cpu", module)):
        inputs = example_inputs(channels, extra_inputs, 1, size, device=device)
        with contextlib.suppress(Exception), torch.no_grad(), torch.device(device):
            return runs(*inputs)
    return None
