"""A module that runs on tensors without data, and keeps its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

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
        with _WholeRecurrence():
            return torch.func.functional_call(module, state, inputs, tie_weights=False)

    return run


class _WholeRecurrence(TorchFunctionMode):
    """While active, a recurrent layer gives its shapes at once, and not step by step.

    PyTorch takes thousands of operators for them, as many more as the image is larger.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace the function where it is called, but for packed sequences."""
        del types
        if func in _RECURRENT and isinstance(args[3], bool):
            return _recurrence(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


_RECURRENT = frozenset({torch.gru, torch.lstm, torch.rnn_relu, torch.rnn_tanh})


def _recurrence(
    x: Tensor,
    states: Tensor | tuple[Tensor, ...],
    params: Sequence[Tensor],
    has_biases: bool,  # noqa: FBT001 - the signature of torch.gru and its like
    num_layers: int,
    dropout: float,
    train: bool,  # noqa: FBT001
    bidirectional: bool,  # noqa: FBT001
    batch_first: bool,  # noqa: FBT001
) -> tuple[Tensor, ...]:
    del params, has_biases, num_layers, dropout, train, batch_first
    last = (states,) if isinstance(states, Tensor) else states
    features = (2 if bidirectional else 1) * last[0].shape[2]
    return x.new_empty(*x.shape[:2], features), *map(torch.empty_like, last)
