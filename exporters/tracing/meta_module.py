"""A module that runs on tensors without data, and keeps its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

__all__ = ["on_meta"]


def on_meta(module: nn.Module) -> Callable[..., Any]:
    """Return a function that runs a module on the meta device.

    `torch.func.functional_call` leaves its tensors in a module that stands at several places of
    another one, where it is told of all of them (torch 2.14).
    """
    own = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    meta = {key: tensor.detach().to("meta") for key, tensor in own.items()}
    state = {
        f"{path}.{name}" if path else name: meta[id(tensor)]
        for path, part in module.named_modules()
        for tensors in (part.named_parameters, part.named_buffers)
        for name, tensor in tensors(recurse=False, remove_duplicate=False)
    }

    def run(*inputs: Any) -> Any:
        return torch.func.functional_call(module, state, inputs, tie_weights=False)

    return run
