"""A module in float64: its weights, and whatever it asks for in float32 on the way.

`module.double()` turns weights. A module that casts its input by `.float()`, as one that takes
bytes does, or that makes a tensor in the default type, would still mix both types, or lose the
digits that the arbiter is there for.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

__all__ = ["double_precision", "doubled"]


def doubled(module: nn.Module) -> nn.Module:
    """Copy a module in float64, without a copy of its float32 weights in between."""
    memo: dict[int, object] = {}
    for parameter in module.parameters():
        needs = parameter.requires_grad
        memo[id(parameter)] = nn.Parameter(parameter.detach().double(), requires_grad=needs)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.double() if buffer.is_floating_point() else buffer.clone()
    return copy.deepcopy(module, memo).double()


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Give float64 to whoever asks PyTorch for float32, by name or by default."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Doubling():
            yield
    finally:
        torch.set_default_dtype(before)


class _Doubling(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        # No function of PyTorch takes a type inside of a list.
        named = {name: _wider(value) for name, value in (kwargs or {}).items()}
        return func(*map(_wider, args), **named)


def _wider(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value
