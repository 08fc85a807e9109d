"""Whether a module does at a size what it does at others: the same operators, and their numbers.

The exporter asks that without data, where it chooses sizes; this is a second opinion of the file
that it wrote, which shares nothing with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from anysize.sizes import Size

__all__ = ["OnePath"]

# Lay a tensor out, where its strides ask for it.
_LAYOUT = frozenset({"_unsafe_view", "alias", "clone", "expand", "view"})

_Call = tuple[str, tuple[object, ...]]


class OnePath:
    """Says of sizes whether a module takes the path there that it takes at some others.

    Args:
        module: In evaluation mode; only run.
        inputs: Makes its arguments for a size.
        sizes: At which it takes the path.

    Raises:
        Exception: What the module raises at one of `sizes`.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Callable[[Size], Sequence[NDArray[np.generic]]],
        sizes: Sequence[Size],
    ) -> None:
        self._module = module
        self._inputs = inputs
        self._calls(sizes[0])  # what a module computes once it has in its first run
        self._known = [self._calls(size) for size in sizes]

    def __call__(self, size: Size) -> bool:
        """Say so of one size; of sizes among which it takes several, that it does."""
        runs = [*self._known, self._calls(size)]
        if len(set(map(_operators, runs))) > 1:  # which lay out what has other strides
            runs = [[call for call in run if call[0] not in _LAYOUT] for run in runs]
        *known, here = map(_operators, runs)
        if len({*known}) > 1 or here != known[0]:
            return len({*known}) > 1
        numbers = zip(*map(_numbers, runs), strict=False)
        return all(len({*others}) > 1 or number == others[0] for *others, number in numbers)

    def _calls(self, size: Size) -> list[_Call]:
        recorder = _Recorder()
        tensors = [torch.from_numpy(np.array(one)) for one in self._inputs(size)]
        with torch.no_grad(), recorder:
            self._module(*tensors)
        return recorder.calls


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[_Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Write a call down, and run it."""
        del types
        name = str(func.overloadpacket).partition(".")[2].removesuffix("_")
        answer = func(*args, **(kwargs or {}))
        # One that gives a shape has a -1 in it where PyTorch need not copy.
        given = [*answer.shape] if name in _LAYOUT else tree_leaves((args, kwargs))
        leaves = (leaf for leaf in given if isinstance(leaf, (int, float)))
        self.calls.append((name, tuple(leaves)))
        return answer


def _operators(calls: Sequence[_Call]) -> tuple[str, ...]:
    return tuple(name for name, _ in calls)


def _numbers(calls: Sequence[_Call]) -> list[object]:
    return list(itertools.chain.from_iterable(numbers for _, numbers in calls))
