"""A forward pass in float32 whose rounding falls otherwise.

Two right implementations of a network differ in how each of its operators rounds: in which order
it sums, and what it fuses. Here the result of each call is moved by up to one float32 step either
way, element by element, on top of the rounding that it has. Each fourth time sums are made in
order, too, over as many lanes as some register has.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from anysize.validators.references.eager.in_order import IN_ORDER, LANES

__all__ = ["Perturbing"]

# Of numbers that are drawn; longer tensors use them several times, from other places on.
_DRAWN: Final = 1 << 18
_STEP: Final = 2.0**-23
# Each case is answered with the same draws, sixteen at the most; one takes a MiB.
_KEPT: Final = 16
# Calls that hand numbers on as they are, and those whose results are whole numbers.
_EXACT: Final = frozenset(
    {
        "__floordiv__", "__get__", "__getitem__", "__mod__", "__setitem__", "abs",
        "adaptive_max_pool1d", "adaptive_max_pool2d", "amax", "amin", "arange", "cat", "ceil",
        "chunk", "clamp", "clamp_max", "clamp_min", "clone", "concat", "concatenate",
        "contiguous", "detach", "dropout", "dropout2d", "empty", "empty_like", "expand",
        "expand_as", "fill_", "flatten", "flip", "float", "floor", "floor_divide", "fmod", "full",
        "full_like", "gather", "hardtanh", "index_select", "masked_fill", "max", "max_pool1d",
        "max_pool2d", "maximum", "meshgrid", "min", "minimum", "movedim", "narrow", "neg",
        "new_full", "new_ones", "new_zeros", "one_hot", "ones", "ones_like", "pad", "permute",
        "pixel_shuffle", "pixel_unshuffle", "relu", "relu6", "remainder", "repeat",
        "repeat_interleave", "reshape", "reshape_as", "roll", "round", "select", "sign", "sort",
        "split", "squeeze", "stack", "swapaxes", "swapdims", "t", "tensor", "tensor_split",
        "tile", "to", "topk", "transpose", "tril", "triu", "trunc", "type_as", "unbind",
        "unflatten", "unfold", "unsqueeze", "view", "view_as", "where", "zero_", "zeros",
        "zeros_like",
    }
)  # fmt: skip


@functools.lru_cache(maxsize=_KEPT)
def _factors(draw: int) -> Tensor:
    """Draw 1 − 2⁻²³ to 1 + 2⁻²³, rounded to float32: of mean 1, and 0.66 steps on the average."""
    generator = torch.Generator().manual_seed(draw)
    drawn = torch.rand(_DRAWN, dtype=torch.float64, generator=generator)
    return (1.0 + (2.0 * drawn - 1.0) * _STEP).float()


class Perturbing(TorchFunctionMode):
    """Moves the float32 results of all calls that round.

    Args:
        draw: Seeds the steps.
    """

    def __init__(self, draw: int) -> None:
        super().__init__()
        self._factors = _factors(draw)
        self._places = random.Random(draw)  # noqa: S311  (no secret)
        round_, is_plain = divmod(draw, len(LANES))
        self._lanes = 0 if is_plain else LANES[round_ % len(LANES)]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the call, and move what it makes."""
        del types
        name = getattr(func, "__name__", "")
        result = self._result(func, name, args, kwargs or {})
        if name in _EXACT or name.removesuffix("_") in _EXACT:
            return result
        is_in_place = name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))
        return tree_map(lambda one: self._moved(one, is_in_place=is_in_place), result)

    def _result(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        in_order = IN_ORDER.get(name) if self._lanes else None
        is_real = args and isinstance(args[0], Tensor) and args[0].dtype == torch.float32
        if in_order is not None and is_real and args[0].numel() and not args[0].is_meta:
            with contextlib.suppress(TypeError):
                return in_order(self._lanes, *args, **kwargs)
        return func(*args, **kwargs)

    def _moved(self, value: Any, *, is_in_place: bool) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float32 or value.is_meta:
            return value
        flat = value.reshape(-1)
        moved = torch.empty_like(flat)
        for start in range(0, len(flat), _DRAWN // 2):
            piece = flat[start : start + _DRAWN // 2]
            place = self._places.randrange(_DRAWN // 2)
            factors = self._factors[place : place + len(piece)].to(value.device)
            torch.mul(piece, factors, out=moved[start : start + len(piece)])
        moved = moved.view(value.shape)
        return value.copy_(moved) if is_in_place else moved
