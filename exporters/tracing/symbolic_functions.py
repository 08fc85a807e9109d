"""Functions whose symbolic trace in torch.export holds on to the example's size, or fails.

Each is replaced, while a module is traced symbolically, by others that compute the same and keep
the symbols (torch 2.13):

- `torch.linspace` takes the number of steps of the example; in a static trace it is replaced as
  well, for it divides by one step less, which is nothing where there is one;
- pooling over a window as large as the map asks sympy whether one window fits, which it cannot say;
- adaptive pooling can keep an axis, and has no graph for another number of bins that follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch program gives it
from torch import Tensor

from anysize.errors import ExportError
from anysize.exporters.tracing.replaced_functions import FunctionTable

__all__ = ["STATIC_FUNCTIONS", "SYMBOLIC_FUNCTIONS"]

_Function = Callable[..., Any]


def _linspace(start: Any, end: Any, steps: Any = None, **options: Any) -> Any:
    linspace: _Function = torch.linspace
    kind = options.get("dtype") or torch.get_default_dtype()
    is_plain = steps is not None and kind.is_floating_point
    if not is_plain or isinstance(start, Tensor) or isinstance(end, Tensor):
        return linspace(start, end, steps, **options)
    kept = {name: options[name] for name in ("dtype", "device") if name in options}
    arange: _Function = torch.arange
    places = arange(steps, **{"dtype": torch.get_default_dtype(), **kept})
    # As PyTorch does, from either end, so that both are met exactly; one step is the start.
    step = (end - start) / torch.clamp(arange(steps - 1, steps, **kept), min=1)
    from_start, from_end = start + places * step, end - (steps - 1 - places) * step
    return torch.where(places * 2 < steps, from_start, from_end)


def _pool(windowed: _Function, adaptive: _Function) -> _Function:
    def pool(x: Tensor, kernel_size: Any, *args: Any, **options: Any) -> Any:
        window = _pair(kernel_size)
        is_symbolic = any(isinstance(side, torch.SymInt) for side in window)
        if is_symbolic and _is_map(x, window) and not _has_padding(*args, **options):
            return adaptive(x, 1)
        return windowed(x, kernel_size, *args, **options)

    return pool


def _adaptive(adaptive: _Function) -> _Function:
    def pool(x: Tensor, output_size: Any, *args: Any, **options: Any) -> Any:
        for bins, length in zip(_pair(output_size), x.shape[-2:], strict=True):
            if isinstance(bins, torch.SymInt) and not _is_same(bins, length):
                raise ExportError(
                    f"adaptive pooling to a number of bins, here {int(bins)}, that follows the "
                    "image and is not the map's own has no graph"
                )
        return adaptive(x, output_size, *args, **options)

    return pool


def _pair(sides: Any) -> Sequence[Any]:
    return sides if isinstance(sides, (tuple, list)) else (sides, sides)


def _is_map(x: Tensor, window: Sequence[Any]) -> bool:
    """Say whether a window has the very lengths of the map, not only those of the example."""
    return len(window) == 2 and all(map(_is_same, window, x.shape[-2:]))


def _is_same(one: Any, other: Any) -> bool:
    return str(one) == str(other)


def _has_padding(stride: Any = None, padding: Any = 0, *others: Any, **options: Any) -> bool:
    del stride
    found = options.get("padding", padding)
    return bool(others) or any(_pair(found))


# In a static trace.
STATIC_FUNCTIONS: FunctionTable = {torch.linspace: _linspace}
SYMBOLIC_FUNCTIONS: FunctionTable = {
    **STATIC_FUNCTIONS,
    F.avg_pool2d: _pool(F.avg_pool2d, F.adaptive_avg_pool2d),
    F.max_pool2d: _pool(F.max_pool2d, F.adaptive_max_pool2d),
    F.adaptive_avg_pool2d: _adaptive(F.adaptive_avg_pool2d),
    F.adaptive_max_pool2d: _adaptive(F.adaptive_max_pool2d),
}
