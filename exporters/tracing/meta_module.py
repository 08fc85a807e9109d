"""A module that runs on tensors without data, and keeps its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from anysize.exporters.tracing.replaced_functions import FunctionTable

__all__ = ["SHAPES_AT_ONCE", "on_meta"]


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


def _shapes_of(recurrent: Callable[..., Any]) -> Callable[..., Any]:
    """Give the shapes of a recurrent layer at once, and not step by step.

    PyTorch takes thousands of operators for them, as many more as the image is larger.
    """

    def shapes(
        x: Tensor, states: Tensor | tuple[Tensor, ...], params: Any, has_biases: Any, *args: Any
    ) -> Any:
        if not isinstance(has_biases, bool):  # packed sequences
            return recurrent(x, states, params, has_biases, *args)
        _, _, _, is_bidirectional, _ = args  # layers, dropout, training …, batch first
        last = (states,) if isinstance(states, Tensor) else states
        features = (2 if is_bidirectional else 1) * last[0].shape[2]
        return x.new_empty(*x.shape[:2], features), *map(torch.empty_like, last)

    return shapes


def _sum_of_products(equation: Any, *operands: Any) -> Tensor:
    """Give the shape of a sum of products at once.

    PyTorch writes it as a product of matrices, or, where all that is summed has one cell, as one of
    numbers; the two are the same.
    """
    if not isinstance(equation, str) or "." in equation:
        return torch.einsum(equation, *operands)
    tensors = operands if isinstance(operands[0], Tensor) else operands[0]
    terms, arrow, made = equation.replace(" ", "").partition("->")
    letters = terms.split(",")
    if [*map(len, letters)] != [tensor.dim() for tensor in tensors]:
        return torch.einsum(equation, *operands)
    lengths: dict[str, int] = {}
    for term, tensor in zip(letters, tensors, strict=True):
        for letter, length in zip(term, tensor.shape, strict=True):
            known = lengths.get(letter, 1)
            if known != length and 1 not in (known, length):  # it says so
                return torch.einsum(equation, *operands)
            lengths[letter] = max(known, length)
    once = sorted(letter for letter in lengths if terms.count(letter) == 1)
    first: Tensor = tensors[0]
    return first.new_empty([lengths[letter] for letter in (made if arrow else once)])


SHAPES_AT_ONCE: FunctionTable = {
    **{func: _shapes_of(func) for func in (torch.gru, torch.lstm, torch.rnn_relu, torch.rnn_tanh)},
    torch.einsum: _sum_of_products,
}
